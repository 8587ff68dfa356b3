"""Wake-up: who commits wakes the worker that sleeps, and no one else is told anything."""

from itertools import combinations

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, stale_keys
from tests.fixtures.roles import people
from tests.fixtures.waiting import wait_until
from tests.fixtures.worker_processes import SLEEP, WORK, fall_asleep, heard, is_woken, listen

pytestmark = [pytest.mark.slow, pytest.mark.shared_database, pytest.mark.own_sessions]

EDIT = "UPDATE docs SET body = body || '!' WHERE id = 1"


@pytest.fixture
def pipeline(db, docs, model):
    """Ten fresh documents."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain()")


@pytest.fixture
def worker(connect, pipeline):
    """A worker's session."""
    return listen(connect())


@pytest.fixture
def ear(connect):
    """Another listener."""
    return listen(connect())


WRITES = {
    "update": EDIT,
    "insert": "INSERT INTO docs VALUES (11, 'new')",
    "delete": "DELETE FROM docs WHERE id = 2",
    "key change": "UPDATE docs SET id = 12 WHERE id = 3",
    "touch": "SELECT embed_touch('docs', '[1]', '[4]')",
    "block": f"BEGIN; {EDIT}; COMMIT",
    "replica": f"SET session_replication_role = replica; {EDIT}",
}


def test_a_commit_wakes_the_sleeper(connect, db, worker):
    for name, write in WRITES.items():
        assert fall_asleep(worker), name
        connect().execute(write)
        assert is_woken(worker), name
        worker.execute(WORK)
        assert_as_source(db)


def test_what_changes_nothing_wakes_nobody(db, worker):
    assert fall_asleep(worker)
    db.execute("UPDATE docs SET n = n + 1")
    db.execute("BEGIN")
    db.execute(EDIT)
    db.execute("ROLLBACK")
    db.execute("BEGIN")
    db.execute("SAVEPOINT undone")
    db.execute(EDIT)
    db.execute("ROLLBACK TO undone")
    db.execute("COMMIT")
    assert heard(worker) == []


def test_after_a_savepoint_undone_the_next_write_wakes(db, worker):
    assert fall_asleep(worker)
    db.execute("BEGIN")
    db.execute("SAVEPOINT undone")
    db.execute(EDIT)
    db.execute("ROLLBACK TO undone")
    db.execute(EDIT)
    db.execute("COMMIT")
    assert is_woken(worker)


def test_a_transaction_of_many_rows_asks_for_one_call(db, worker):
    assert fall_asleep(worker)
    db.execute("INSERT INTO docs SELECT i, 'many' FROM generate_series(100, 3000) i")
    assert db.execute("SELECT count(*) FROM embed.change_log WHERE wake").fetchone() == (1,)
    assert heard(worker) == ["evergreen_wake"]


def test_notify_is_sent_only_while_somebody_sleeps(db, worker, ear, provider):
    for _ in range(20):
        db.execute(EDIT)
    assert heard(ear) == []
    assert fall_asleep(worker)
    db.execute(EDIT)
    db.execute(EDIT)
    assert heard(ear) == ["evergreen_wake"] * 2
    worker.execute(WORK)
    for _ in range(20):
        db.execute(EDIT)
    assert heard(ear) == []


def test_no_wakeup_is_lost_whatever_comes_first(connect, db, worker):
    """In each order what was committed has been seen, or wakes the worker, or the worker does not sleep."""
    for writes in combinations(range(5), 3):
        wait_until(lambda: fall_asleep(worker))  # an earlier sleep: the writer may have begun in it
        writer = connect(autocommit=False)
        of_writer = iter([lambda w=writer: w.execute("SELECT 1"), lambda w=writer: w.execute(EDIT), writer.commit])
        of_worker = iter([lambda: worker.execute(WORK), lambda: worker.execute(SLEEP).fetchone()[0]])
        asleep = True
        for number in range(5):
            if number in writes:
                next(of_writer)()
            else:
                asleep = next(of_worker)()
        assert not stale_keys(db) or not asleep or is_woken(worker), writes
        worker.execute(WORK)
        assert stale_keys(db) == []


def test_a_long_writer_keeps_workers_from_sleeping_until_it_is_seen(connect, db, worker):
    writer = connect(autocommit=False)
    writer.execute(EDIT)
    pauses = []
    for _ in range(8):
        worker.execute(WORK)
        asleep, seconds = worker.execute(SLEEP).fetchone()
        assert not asleep
        pauses.append(seconds)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1
    writer.commit()
    worker.execute(WORK)
    assert_as_source(db)
    assert fall_asleep(worker)


def test_a_long_writer_that_began_in_an_earlier_sleep_wakes_the_later_one(connect, db, worker):
    assert fall_asleep(worker)
    writer = connect(autocommit=False)
    writer.execute("UPDATE docs SET body = 'long' WHERE id = 2")
    db.execute(EDIT)
    assert is_woken(worker)
    worker.execute(WORK)
    assert stale_keys(db) == []
    assert fall_asleep(worker)
    writer.commit()
    assert is_woken(worker)


def test_who_came_while_a_worker_slept_and_commits_while_it_is_awake_is_seen(connect, db, worker):
    """At its write it did not get the lock; it does now, as the last act before its commit, which takes its time."""
    assert fall_asleep(worker)
    writer = connect(autocommit=False)
    writer.execute(EDIT)
    worker.execute(WORK)
    db.execute("SELECT setval('embed.sleeper_until', 0)")  # no worker has slept for long
    writer.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as COMMIT does first
    asleep = fall_asleep(worker) or fall_asleep(worker)  # woken for nothing it looks once more first
    writer.commit()
    assert not asleep or is_woken(worker)


def test_one_of_two_workers_sleeps_and_the_other_looks_by_itself(connect, db, worker):
    other = listen(connect())
    assert fall_asleep(worker)
    assert not fall_asleep(other)
    db.execute(EDIT)
    other.execute(WORK)  # it finds what the first was woken for
    assert stale_keys(db) == []
    assert is_woken(worker)
    wait_until(lambda: fall_asleep(worker), what="sleep")  # woken for nothing it looks once more before it sleeps


def test_the_word_is_passed_on_when_there_is_more_than_one_takes(db, worker, ear):
    assert fall_asleep(worker)
    db.execute("INSERT INTO docs SELECT i, 'few' FROM generate_series(20, 40) i")
    worker.execute(WORK)
    assert heard(ear) == ["evergreen_wake"]
    assert fall_asleep(worker)
    db.execute("INSERT INTO docs SELECT i, 'many' FROM generate_series(100, 3000) i")
    worker.execute(WORK)
    assert heard(ear) == ["evergreen_wake", "evergreen_backlog"]


@pytest.mark.parametrize("way", ["pg_advisory_lock", "pg_advisory_lock_shared"])
def test_who_sits_on_the_lock_makes_workers_poll_and_nothing_else(connect, db, worker, ear, way):
    people(db)
    bob = connect("bob")
    bob.execute(f"SELECT {way}(1163285066, 0)")
    for _ in range(8):
        db.execute(EDIT)
        assert not fall_asleep(worker)
        assert_as_source(db)
    worker.execute(WORK)
    assert worker.execute(SLEEP).fetchone()[1] <= 1
    assert heard(ear) == []
    bob.close()
    wait_until(lambda: fall_asleep(worker), what="sleep")


def test_a_sleeper_that_is_dead_costs_no_notify_when_its_time_is_up(connect, db, worker, ear):
    """It holds the lock, as the session of a stopped process does; its sleep is no longer announced."""
    assert fall_asleep(worker)
    db.execute(EDIT)
    assert heard(ear) == ["evergreen_wake"]
    said_until = "SELECT last_value / 1000.0 - date_part('epoch', clock_timestamp()) FROM embed.sleeper_until"
    assert db.execute(said_until).fetchone()[0] <= 4
    db.execute("SELECT setval('embed.sleeper_until', 0)")  # as if so much time had passed
    db.execute(EDIT)
    assert heard(ear) == []
    other = connect()
    other.execute(WORK)
    assert_as_source(db)


def test_notifys_of_strangers_keep_no_worker_busy(connect, db, worker):
    people(db)
    bob = connect("bob")

    def looks_once_a_second():
        bob.execute("NOTIFY evergreen_wake")
        worker.execute(WORK)
        return worker.execute(SLEEP).fetchone() == (False, 1)

    wait_until(looks_once_a_second)
    db.execute(EDIT)
    assert fall_asleep(worker)


@pytest.mark.parametrize(("limit", "told"), [("5 ms", []), ("2 s", ["evergreen_wake"])])
def test_a_commit_that_may_not_wait_sends_no_notify(db, worker, ear, limit, told):
    """The lock by which NOTIFYs take turns is waited for as others are, and lock_timeout would fail the commit."""
    assert fall_asleep(worker)
    db.execute(f"SET lock_timeout = '{limit}'")
    db.execute(EDIT)
    assert heard(ear) == told


def test_wakeup_is_switched_on_and_off_under_writers(connect, db, worker, ear):
    writer = connect(autocommit=False)
    writer.execute(EDIT)  # has the function's plans, and a lock on the table
    for switch, told in (("false", []), ("true", ["evergreen_wake"]), ("null", ["evergreen_wake"])):
        db.execute(f"""SELECT embed_alter('docs', '{{"wakeup": {switch}}}')""")
        writer.commit()
        assert fall_asleep(worker)
        writer.execute(EDIT)
        writer.commit()
        assert heard(ear) == told
        writer.execute("SELECT embed_touch('docs', '[2]')")
        writer.commit()
        assert heard(ear) == told
        worker.execute(WORK)
        writer.execute(EDIT)


def test_what_cannot_be_done_now_keeps_nobody_from_sleeping(connect, db, worker, provider):
    """A key that an open drain has, and rows of a model that rests."""
    drain = connect(autocommit=False)
    db.execute(EDIT)
    drain.execute("SELECT embed_drain()")
    db.execute(EDIT)
    assert fall_asleep(worker)
    db.execute("UPDATE docs SET body = 'another' WHERE id = 2")
    assert is_woken(worker)
    worker.execute(WORK)
    drain.rollback()
    db.execute("SELECT embed_drain()")
    assert_as_source(db)


def test_sleep_is_refused_in_a_transaction_that_sees_the_past(connect, pipeline):
    session = connect()
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction, match="READ COMMITTED"):
        session.execute(SLEEP)
