"""Cancel, statement_timeout and termination end a worker at once, also while it waits for a model; nothing is lost."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

CALLS = {
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(until_empty => true)",
}
ENDS = ["statement_timeout", "pg_cancel_backend", "pg_terminate_backend"]


@pytest.fixture
def end_it(connect, db):
    """Starts a call that ends in the named way once ``ready`` has come true; returns what it raised."""

    def start(call, end, ready):
        session = connect()
        with pytest.raises(psycopg.errors.UndefinedObject):  # Python is loaded now, however busy the machine is
            session.execute(CALLS[call].replace("(", "('nobody', ").replace(", )", ")"))
        if end == "statement_timeout":
            session.execute("SET statement_timeout = '1 s'")
        work = Background(session, CALLS[call])
        ready()
        if end != "statement_timeout":
            assert db.execute(f"SELECT {end}(%s)", (work.pid,)).fetchone()[0]
        with pytest.raises(psycopg.Error) as ended:
            work.result(timeout=10)
        wanted = psycopg.errors.AdminShutdown if end == "pg_terminate_backend" else psycopg.errors.QueryCanceled
        assert isinstance(ended.value, wanted)
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        wait_until(
            lambda: db.execute(gone, (work.pid,)).fetchone()[0], timeout=10, what="the end of the backend's work"
        )

    return start


@pytest.mark.few(2)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("end", ENDS)
def test_ends_while_the_model_is_held_and_loses_nothing(db, docs, model, provider, end_it, call, end):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.reset()
    db.execute("UPDATE docs SET body = 'edited' WHERE id <= 4")
    db.execute("INSERT INTO docs VALUES (11, 'new', 'one')")
    db.execute("DELETE FROM docs WHERE id = 10")
    provider.hold()
    end_it(call, end, provider.wait_for_requests)  # all of this before the provider is released
    assert len(shown(db)) == 9
    provider.release()
    # The next drain takes over all six keys at once.
    assert drain_once(db) == 6
    assert_as_source(db)


@pytest.mark.parametrize(("call", "end"), [("drain", "pg_cancel_backend"), ("work", "pg_terminate_backend")])
def test_ends_while_a_function_model_runs(connect, db, docs, end_it, call, end):
    db.execute("""
        CREATE TABLE delay (seconds float8);
        INSERT INTO delay VALUES (60);
        CREATE FUNCTION slow(texts text[]) RETURNS vector[] LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN
            PERFORM pg_sleep(seconds) FROM delay;
            RETURN (SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts));
        END $$""")
    db.execute("SELECT embed_model_add('slow', 'function', 3, remote_name => 'public.slow')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'slow')")

    def asleep():
        waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%embed_%'"
        wait_until(lambda: db.execute(waits).fetchone()[0], what="a sleeping model")

    end_it(call, end, asleep)
    db.execute("UPDATE delay SET seconds = 0")
    assert drain_once(db) == 10
    assert len(shown(db)) == 10


def test_a_session_works_on_after_its_drain_was_cancelled(connect, db, docs, model, provider):
    """Nothing of the cancelled call is left in the session's memory, nor any answer that comes later."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session = connect()
    for call in CALLS.values():
        provider.reset()
        provider.hold()
        work = Background(session, call)
        provider.wait_for_requests()
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result(timeout=10)
    provider.release()
    session.execute(CALLS["drain"])
    assert_as_source(db)
    db.execute("UPDATE docs SET body = 'edited'")
    session.execute(CALLS["work"])
    assert_as_source(db)


def test_what_a_cancelled_drain_did_in_the_same_transaction_is_undone_with_it(connect, db, docs, model, provider):
    """A caller may catch the cancel in a savepoint and commit the rest."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session = connect()
    session.execute("BEGIN")
    session.execute("UPDATE docs SET n = 7 WHERE id = 1")
    session.execute("SAVEPOINT before")
    provider.hold()
    work = Background(session, CALLS["drain"])
    provider.wait_for_requests()
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result(timeout=10)
    provider.release()
    session.execute("ROLLBACK TO before")
    assert session.execute("SELECT embed_drain()").fetchone()[0] == 10
    session.execute("COMMIT")
    assert_as_source(db)
    assert db.execute("SELECT n FROM docs WHERE id = 1").fetchone()[0] == 7
