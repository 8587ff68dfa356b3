"""Workers run READ COMMITTED, whatever the database's default; writers run as they like."""

import threading

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.waiting import Background

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

ABOVE = ["REPEATABLE READ", "SERIALIZABLE"]
PARTITIONS = 6
EDITS = 25


def test_a_drain_above_read_committed_is_refused(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    for level in ABOVE:
        db.execute(f"BEGIN ISOLATION LEVEL {level}")
        with pytest.raises(psycopg.Error, match=level) as refused:
            db.execute("SELECT embed_drain()")
        db.execute("ROLLBACK")
        assert refused.value.sqlstate == "25001"
        assert "READ COMMITTED" in refused.value.diag.message_hint
        db.execute(f"SET default_transaction_isolation = '{level.lower()}'")
        with pytest.raises(psycopg.Error) as refused:
            db.execute("SELECT embed_drain()")
        assert refused.value.sqlstate == "25001"
        db.execute("RESET default_transaction_isolation")
    assert provider.requests == []
    assert drain_all(db) == 1
    assert_as_source(db)


@pytest.fixture
def serializable(db):
    """Makes SERIALIZABLE the default of every session to come."""
    name = db.execute("SELECT current_database()").fetchone()[0]
    db.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")


def _default_level(session):
    return session.execute("SHOW default_transaction_isolation").fetchone()[0]


def test_work_runs_where_serializable_is_the_default(connect, db, docs, model, serializable):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session = connect()
    assert _default_level(session) == "serializable"
    session.execute("CALL embed_work(until_empty => true)")
    assert _default_level(session) == "serializable"
    assert_as_source(db)


def test_each_transaction_of_a_worker_is_read_committed(connect, db, docs, serializable):
    """Told by a model that runs inside of one: above that level a worker would make innocent writers fail."""
    db.execute("""
        CREATE FUNCTION told(texts text[]) RETURNS vector[] LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE EXCEPTION 'this is %', current_setting('transaction_isolation');
            END IF;
            RETURN (SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts));
        END $$""")
    db.execute("SELECT embed_model_add('told', 'function', 3, remote_name => 'public.told')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'told')")
    connect().execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT fresh, failed, last_error FROM embed_status").fetchone() == (10, 0, None)


def test_cancelled_work_gives_the_session_its_isolation_level_back(connect, db, docs, model, provider, serializable):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session = connect()
    provider.hold()
    work = Background(session, "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert _default_level(session) == "serializable"


@pytest.fixture
def partitions(db, model, serializable):
    """A partition for each writer, so that without us no two of them could conflict."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text) PARTITION BY LIST (id)")
    for i in range(PARTITIONS):
        db.execute(f"CREATE TABLE docs_{i} PARTITION OF docs FOR VALUES IN ({i})")
        db.execute("INSERT INTO docs VALUES (%s, 'title', 'body')", (i,))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")


def _write(session, number):
    for edit in range(EDITS):
        with session.transaction():
            # constants, so that the plan holds the one partition only
            session.execute(f"SELECT title FROM docs WHERE id = {number}")
            session.execute(f"UPDATE docs SET body = 'edit {edit}' WHERE id = {number}")
            session.execute(f"UPDATE docs SET title = 'of {number}, {edit}' WHERE id = {number}")


def _work(session, done):
    while not done.is_set():
        session.execute("CALL embed_work(until_empty => true)")


def _drain(session, done):
    session.execute("SET default_transaction_isolation = 'read committed'")
    while not done.is_set():
        session.execute("SELECT embed_drain()")


def test_concurrent_serializable_writers_meet_no_worker(connect, db, partitions):
    errors: list[psycopg.Error] = []
    done = threading.Event()

    def start(body, given):
        def run():
            try:
                body(session, given)
            except psycopg.Error as error:
                errors.append(error)

        session = connect()
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    workers = [start(body, done) for body in (_work, _work, _drain)]
    for writer in [start(_write, number) for number in range(PARTITIONS)]:
        writer.join(60)
    done.set()
    for worker in workers:
        worker.join(60)
    assert errors == []
    db.execute("SET default_transaction_isolation = 'read committed'")
    drain_all(db)
    assert_as_source(db)
