"""A generation table that another session has locked ends no drain and no claim.

The kind: whatever is looked up in embed_store may be locked for an instant by a promotion, a retirement or an index, or
for long by an operator. That is one pipeline's matter: its rows wait, and the call goes on with the others.
"""

import pytest
from psycopg import errors

from tests.fixtures.external_compute import claim, submit
from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.stress import often
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

LOCK = "LOCK TABLE embed_store.g1 IN ACCESS EXCLUSIVE MODE"


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")


@pytest.mark.slow
def test_a_drain_that_waits_for_texts_in_flight_elsewhere(db, connect, pipeline, provider):
    texts, locker = claim(db), connect(autocommit=False)
    db.execute("INSERT INTO docs SELECT i + 100, title, body FROM docs d (i, title, body)")
    drain = Background(connect(), "SELECT embed_drain()")
    has_looked = "SELECT 1 FROM pg_locks WHERE pid = %s AND relation = 'embed.in_flight'::regclass"
    wait_until(lambda: db.execute(has_looked, (drain.pid,)).fetchone(), what="the drain")
    locker.execute(LOCK)
    assert drain.result() == [(0,)]
    locker.rollback()
    submit(db, texts)
    drain_all(db)
    assert_as_source(db)
    assert not provider.sent


@pytest.mark.fresh_database
def test_a_claim_outside(db, connect, pipeline):
    locker, notices = connect(autocommit=False), []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    locker.execute(LOCK)
    assert claim(db) == []
    assert any('generation 1 of pipeline "docs" is locked' in notice for notice in notices)
    locker.rollback()
    assert len(claim(db)) == 10


@pytest.mark.fresh_database
def test_a_drain(db, connect, pipeline):
    """What was claimed and undone is not stepped over: the backfill comes to it again."""
    locker = connect(autocommit=False)
    locker.execute(LOCK)
    assert db.execute("SELECT embed_drain()").fetchone() == (0,)
    locker.rollback()
    drain_all(db)
    assert_as_source(db)


@pytest.mark.few(1)
@pytest.mark.parametrize("table", ["change_log", "pipeline"])
def test_a_worker_waits_until_a_table_of_ours_is_unlocked(db, connect, pipeline, provider, table):
    """As by VACUUM FULL or REINDEX: embed_work(until_empty => true) goes on when that is over."""
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    locker = connect(autocommit=False)
    locker.execute(f"SET LOCAL lock_timeout = '5 s'; LOCK TABLE embed.{table} IN ACCESS EXCLUSIVE MODE")
    provider.release()
    with pytest.raises(TimeoutError):
        work.result(timeout=1.0)
    locker.rollback()
    work.result()
    assert_as_source(db)


@pytest.mark.slow
def test_a_worker_that_has_waited_to_its_end_says_so(connect, pipeline):
    locker = connect(autocommit=False)
    locker.execute("LOCK TABLE embed.change_log IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(errors.LockNotAvailable) as found:
        connect().execute("CALL embed_work(max_runtime => '2 s', until_empty => true)")
    assert "pg_locks" in found.value.diag.message_hint


@pytest.mark.fresh_database
def test_a_worker(db, connect, pipeline):
    locker = connect(autocommit=False)
    locker.execute(LOCK)
    db.execute("CALL embed_work(until_idle => true)")
    locker.rollback()
    db.execute("CALL embed_work(until_empty => true)")
    assert_as_source(db)


# A worker waits here before the last tries to write what a lock has kept from being written.
GATED = """
from evergreen import db
from evergreen.worker.batches import Batches
from evergreen.db.queries import Query
unchanged = Batches.finish
def finish(self):
    db.value(Query("gate", (), "SELECT pg_catalog.pg_advisory_lock(7701)"))
    db.commit()
    return unchanged(self)
Batches.finish = finish
"""
UNWRITTEN = "cannot be written until a table is unlocked"


def held_while_in_flight(connect, provider, table, statement):
    """Start work, lock a table while its texts are at the model, and let the model answer."""
    provider.hold()
    session, notices = connect(), []
    session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    work = Background(session, statement)
    provider.wait_for_requests()
    locker = connect(autocommit=False)
    locker.execute(f"SET LOCAL lock_timeout = '5 s'; LOCK TABLE embed.{table} IN ACCESS EXCLUSIVE MODE")
    provider.release()
    return work, locker, notices


def assert_paid_once(db, provider):
    assert_as_source(db)
    assert set(provider.sent.values()) == {1}
    assert db.execute("SELECT sum(texts) FROM embed_usage").fetchone() == (len(provider.sent),)
    assert db.execute("SELECT count(*) FROM embed.lease").fetchone() == (0,)


@pytest.mark.parametrize("table", often(["job", "lease", "usage"], "job"))
def test_answers_are_kept_in_hand_until_they_can_be_written(db, connect, pipeline, provider, table):
    """Nothing is sent twice, and embed_work(until_empty => true) does not return with rows missing."""
    work, locker, notices = held_while_in_flight(connect, provider, table, "CALL embed_work(until_empty => true)")
    wait_until(lambda: any(UNWRITTEN in notice for notice in notices), what="the worker to wait for the table")
    locker.rollback()
    work.result()
    assert_paid_once(db, provider)


@pytest.mark.parametrize("table", often(["job", "lease", "usage"], "lease"))
def test_answers_outlive_a_worker_that_could_not_write_them(db, connect, pipeline, provider, table):
    statement = "CALL embed_work(until_empty => true, max_runtime => '3 s')"
    work, locker, _ = held_while_in_flight(connect, provider, table, statement)
    with pytest.raises(errors.LockNotAvailable) as found:
        work.result()
    assert "pg_locks" in found.value.diag.message_hint
    locker.rollback()
    db.execute("CALL embed_work(until_empty => true)")
    assert_as_source(db)
    assert set(provider.sent.values()) == {1}


def test_an_error_at_the_last_try_ends_no_call(db, connect, pipeline, provider):
    """As when a generation was dropped while its batch waited for a lock: other batches are still written."""
    gate = connect()
    gate.execute("SELECT pg_advisory_lock(7701)")
    worker = connect()
    worker.execute(f"SELECT embed_setting('lease'); DO LANGUAGE plpython3u $${GATED}$$")
    provider.hold()
    work = Background(worker, "CALL embed_work(until_empty => true, max_runtime => '3 s')")
    provider.wait_for_requests()
    locker = connect(autocommit=False)
    locker.execute("SET LOCAL lock_timeout = '5 s'; LOCK TABLE embed.usage IN ACCESS EXCLUSIVE MODE")
    provider.release()
    at_gate = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'advisory'"
    wait_until(lambda: db.execute(at_gate, (work.pid,)).fetchone(), what="the last try")
    locker.execute("CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'odd'; END$$")
    locker.execute("CREATE TRIGGER odd BEFORE INSERT ON embed.usage FOR EACH ROW EXECUTE FUNCTION odd()")
    locker.commit()
    gate.execute("SELECT pg_advisory_unlock_all()")
    work.result()
    db.execute("DROP TRIGGER odd ON embed.usage; DROP FUNCTION odd()")
    db.execute("UPDATE embed.job SET ready_at = now()")
    drain_all(db)
    assert_as_source(db)
    assert set(provider.sent.values()) == {1}


def test_answers_of_a_drain_that_could_not_write_them(db, connect, pipeline, provider):
    drain, locker, _ = held_while_in_flight(connect, provider, "usage", "SELECT embed_drain()")
    assert drain.result() == [(0,)]
    locker.rollback()
    db.execute("UPDATE embed.job SET ready_at = now()")  # instead of waiting for the end of a lease
    drain_all(db)
    assert_as_source(db)
    assert set(provider.sent.values()) == {1}
