"""An owner's code that never returns keeps a worker for a while, and not one worker after the other for ever."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all, stale_keys, status_of
from tests.fixtures.roles import hash_model, people
from tests.fixtures.stress import Team
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

PLANT = """
CREATE TABLE alice.asleep (since timestamptz);
CREATE FUNCTION alice.{kind}() RETURNS void LANGUAGE plpgsql AS $${body}$$;
CREATE FUNCTION alice.constant() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
    IF EXISTS (SELECT FROM alice.asleep) THEN PERFORM alice.{kind}(); END IF;
    RETURN true;
END$$;
CREATE TABLE alice.docs (id int PRIMARY KEY, body text);
CREATE INDEX ON alice.docs (id) WHERE alice.constant();
INSERT INTO alice.docs SELECT i, 'body ' || i FROM generate_series(1, 3000) i;
SELECT embed_create('hers', 'alice.docs', columns => '{{body}}', model => 'hash8');
"""
KINDS = {
    "sleeps": "BEGIN PERFORM pg_sleep(3600); END",
    "catches": """BEGIN LOOP
        BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP; END""",
}


@pytest.fixture
def asleep(db, connect):
    """Make alice's pipeline, the first, one that cannot be read, and one of other texts beside it."""
    people(db)
    hash_model(db)

    def make(kind):
        alice = connect("alice")
        alice.execute(PLANT.format(kind=kind, body=KINDS[kind]))
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(1, 10) i")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
        drain_all(db)
        db.execute("SELECT embed_setting('lease', '3 s')")  # a fifth of it is as long as reading may take
        alice.execute("UPDATE alice.docs SET body = body || '!'; INSERT INTO alice.asleep VALUES (now())")

    return make


def edit(db, number):
    db.execute("UPDATE docs SET body = %s || id", (f"edit {number} ",))


def test_a_worker_leaves_alone_what_takes_for_ever(db, connect, asleep):
    asleep("sleeps")
    session = connect()
    work = Background(session, "CALL embed_work(max_runtime => '60 s')")
    for number in range(3):
        edit(db, number)
        wait_until(lambda: stale_keys(db) == [], what="the other pipeline")
    wait_until(lambda: "took more than" in (status_of(db, "last_error", "hers") or ""), what="the reason")
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()


def test_a_drain_has_time_for_the_others(db, connect, asleep):
    asleep("sleeps")
    session = connect()  # whose planner has not met her table yet
    session.execute("SET client_min_messages = error; SET statement_timeout = '20 s'")
    edit(db, 1)
    assert session.execute("SELECT embed_drain(max_runtime => '8 s')").fetchone() == (10,)
    assert stale_keys(db) == []
    connect("alice").execute("DELETE FROM alice.asleep")
    db.execute("SELECT embed_retry('hers')")
    drain_all(db)
    assert status_of(db, "pending", "hers") == 0


def test_a_cancel_of_the_users_is_still_one(db, connect, asleep):
    asleep("sleeps")
    db.execute("SELECT embed_setting('lease', '5 min')")
    session = connect()
    work = Background(session, "SELECT embed_drain()")
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    wait_until(lambda: db.execute(sleeping, (work.pid,)).fetchone() == (1,), what="her code at work")
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert session.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.stress
def test_code_that_catches_its_cancel_costs_sessions_and_no_more(db, dsn, asleep):
    """Who is thrown out is started again, as pg_cron and the shell's worker do."""
    asleep("catches")
    work = "CALL embed_work(max_runtime => '3 s')"
    team = Team(lambda: psycopg.connect(dsn, autocommit=True), [work, work], forgiving=True)
    for number in range(3):
        edit(db, number)
        wait_until(lambda: stale_keys(db) == [], timeout=60, what="the other pipeline")
    wait_until(lambda: team.errors, timeout=60, what="a session's end")
    team.stop()
    assert {error.sqlstate for error in team.errors} <= {"57P01", None}


def test_a_claim_outside_ends_before_its_statement_would_be_cancelled(db, connect, asleep):
    """The kind: what bounds itself by a time of its own has to mind the statement_timeout of its session, too."""
    asleep("sleeps")
    db.execute("SELECT embed_setting('lease', '1 min')")
    db.execute(f"ALTER DATABASE {db.info.dbname} SET statement_timeout = '4 s'")
    session = connect()
    session.execute("SET client_min_messages = error")
    assert session.execute("SELECT * FROM embed_claim('hers', 10)").fetchall() == []
