"""Wake-up where it could do harm: transactions that are prepared, and a full table of locks."""

from contextlib import suppress

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import assert_as_source, stale_keys
from tests.fixtures.worker_processes import SLEEP, WORK, fall_asleep, heard, listen

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

EDIT = "UPDATE docs SET body = body || '!' WHERE id = 1"
ON = """SELECT embed_alter('docs', '{"wakeup": true}')"""
OPTIONS = {"shared_preload_libraries": "", "max_prepared_transactions": 10, "max_locks_per_transaction": 10}


@pytest.fixture(scope="module")
def server():
    """A server that takes prepared transactions, and few locks."""
    with Cluster(options=OPTIONS) as made:
        yield made


@pytest.fixture
def session(server):
    """Opens sessions."""
    opened = []

    def open_one(**options):
        opened.append(psycopg.connect(server.dsn(), autocommit=True, **options))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def db(session, provider):
    """Ten fresh documents, made where transactions may be prepared."""
    db = session()
    db.execute("CREATE EXTENSION evergreen CASCADE; CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    provider.register(db)
    db.execute("INSERT INTO docs SELECT i, 'title', 'body ' || i FROM generate_series(1, 10) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain()")
    yield db
    db.execute(
        "DROP TABLE docs CASCADE; SELECT embed_drop('docs'); DROP EXTENSION evergreen CASCADE;"
        " DROP TABLE IF EXISTS bare"
    )


def prepare(session, *statements):
    session.execute("BEGIN")
    for statement in statements:
        session.execute(statement)
    session.execute("PREPARE TRANSACTION 'one'")


def test_where_transactions_may_be_prepared_writers_send_no_notify_unless_told_to(session, db):
    worker = listen(session())
    assert fall_asleep(worker)
    db.execute(EDIT)
    assert heard(worker) == []
    db.execute(ON)
    worker.execute(WORK)
    assert fall_asleep(worker)
    db.execute(EDIT)
    assert heard(worker) == ["evergreen_wake"]


COMMITTED = {
    "by itself": [EDIT],
    "in a block": ["BEGIN", EDIT, "COMMIT"],
    "at its end": ["BEGIN", EDIT, "END"],
    "in one string": [f"BEGIN; {EDIT}; COMMIT"],
}


@pytest.mark.parametrize("prepared", [False, True], ids=["simple protocol", "extended protocol"])
def test_told_to_they_do_where_what_ends_the_transaction_is_a_commit(session, db, prepared):
    db.execute(ON)
    worker = listen(session())
    writer = session(prepare_threshold=0 if prepared else None)
    for name, statements in COMMITTED.items():
        if prepared and ";" in statements[0]:
            continue
        assert fall_asleep(worker)
        for statement in statements:
            writer.execute(statement)
        assert heard(worker) == ["evergreen_wake"], name
        worker.execute(WORK)


PREPARED = {
    "ordinary": [EDIT],
    "with touch": [EDIT, "SELECT embed_touch('docs', '[2]')"],
    "constraints at once": ["SET CONSTRAINTS ALL IMMEDIATE", EDIT],
    "constraints late at once": [EDIT, "SET CONSTRAINTS ALL IMMEDIATE"],
}


@pytest.mark.few(2)
@pytest.mark.parametrize("case", PREPARED)
def test_no_transaction_fails_to_be_prepared_because_a_worker_sleeps(session, db, case):
    """What it changed is found by polling."""
    db.execute(ON)
    worker = listen(session())
    assert fall_asleep(worker)
    prepare(session(), *PREPARED[case])
    db.execute("COMMIT PREPARED 'one'")
    assert heard(worker) == []
    worker.execute(WORK)
    assert_as_source(db)


def test_a_transaction_that_stays_prepared_leaves_workers_to_poll(session, db):
    """It holds the lock in share mode, perhaps for hours, and keeps every worker awake."""
    db.execute(ON)
    worker = listen(session())
    prepare(session(), EDIT)
    for number in range(8):
        db.execute("UPDATE docs SET body = %s WHERE id = 2", (f"edit {number}",))
        worker.execute(WORK)
        assert stale_keys(db) == []
        worker.execute(WORK)
        ((asleep, seconds),) = worker.execute(SLEEP).fetchall()
        assert not asleep
        assert seconds <= 1
    db.execute("COMMIT PREPARED 'one'")
    worker.execute(WORK)
    assert_as_source(db)
    assert fall_asleep(worker)


@pytest.mark.parametrize("sleeping", [False, True], ids=["awake", "asleep"])
def test_a_full_table_of_locks_costs_the_wakeup_and_not_the_write(session, db, sleeping):
    """A session fills it, and releases one lock after the other until there is room for a writer without triggers."""
    db.execute(ON)
    db.execute("CREATE TABLE bare (id int) WITH (fillfactor = 10); INSERT INTO bare VALUES (1)")
    worker, writer = listen(session()), session()
    worker.execute(WORK)
    writer.execute(EDIT)
    worker.execute(WORK)
    greedy = session()
    held = 0
    if sleeping:
        assert fall_asleep(worker)
    with suppress(psycopg.errors.OutOfMemory):
        while True:
            greedy.execute("SELECT pg_advisory_lock(%s)", (held,))
            held += 1
    while True:
        try:
            writer.execute("UPDATE bare SET id = 2")
            break
        except psycopg.errors.OutOfMemory:
            assert held > 0
            held -= 1
            greedy.execute("SELECT pg_advisory_unlock(%s)", (held,))
    writer.execute(EDIT)
    assert db.execute("SELECT scope FROM embed.change_log").fetchall() == [(None,)]
    greedy.execute("SELECT pg_advisory_unlock_all()")
    worker.execute(WORK)
    assert_as_source(db)
