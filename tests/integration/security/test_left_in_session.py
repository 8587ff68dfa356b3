"""What an owner's code leaves in the session that runs it: nothing.

The kind: code of a table's owner (here an IMMUTABLE function in an index condition, run by the planner) runs in the
session of a worker, an administrator or a monitoring tool. Its subtransaction is undone, but some of what a session has
is not part of any transaction. Tried below, by every call that runs such code:

* advisory locks of the session, new ones, more of one that the session has, and giving up all: worker slots and leases;
* PREPARE, DEALLOCATE: a statement under the name of one that the client prepared would run as the client;
* CLOSE ALL: the client's cursors, which cannot be given back, so the pipeline is refused with the reason;
* settings, SET ROLE, SET SESSION AUTHORIZATION, temporary tables, LISTEN, UNLISTEN, NOTIFY, cursors WITH HOLD, DISCARD,
  setseed: undone with the subtransaction, refused, or without influence on what workers do.
"""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.roles import hash_model, people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

PLANT = """
CREATE TABLE alice.orders (statement text);
CREATE TABLE alice.secret (n int);
CREATE FUNCTION alice.act() RETURNS void VOLATILE LANGUAGE plpgsql AS $$DECLARE one text; BEGIN
    FOREACH one IN ARRAY ARRAY(SELECT statement FROM alice.orders) LOOP
        BEGIN
            EXECUTE one;
            RAISE NOTICE 'done: %', one;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE 'refused: %', one;
        END;
    END LOOP;
END$$;
CREATE FUNCTION alice.constant() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$BEGIN PERFORM alice.act(); RETURN true; END$$;
CREATE TABLE alice.docs (id int PRIMARY KEY, body text);
CREATE INDEX ON alice.docs (id) WHERE alice.constant();
INSERT INTO alice.docs SELECT i, 'body ' || i FROM generate_series(1, 5) i;
SELECT embed_create('hers', 'alice.docs', columns => '{body}', model => 'hash8');
"""
ROADS = {
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(until_empty => true, max_runtime => '20 s', slot => 1)",
    "status": "SELECT * FROM embed_status",
    "verify": "SELECT embed_verify('hers')",
    "explain": "SELECT embed_explain('hers', '[1]')",
    "touch": "SELECT embed_touch('hers', '[1]')",
    "estimate": "SELECT embed_estimate('hers')",
}
OURS = "FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 1163285062::oid"
MISCHIEF = [
    "SELECT pg_advisory_lock(1163285063, n) FROM generate_series(0, 30) n",
    "SELECT pg_advisory_lock(-1), pg_advisory_lock(-2, -3), pg_advisory_lock_shared(7), pg_advisory_lock_shared(1, 2)",
    "SELECT pg_advisory_lock(9223372036854775807), pg_advisory_lock_shared((-9223372036854775808)::bigint)",
    "SELECT pg_advisory_lock(2147483647, (-2147483648)::int), pg_advisory_lock_shared((-1)::bigint)",
    "SELECT pg_advisory_lock(5) FROM generate_series(1, 1000) n",
    f"SELECT pg_advisory_lock(classid::bigint::int, objid::bigint::int) {OURS}",
    "SELECT pg_advisory_lock_shared(1163285066, 0)",
    "PREPARE planted AS SELECT alice.constant()",
    """SELECT set_config(name, value, false) FROM (VALUES ('search_path', 'alice'), ('lock_timeout', '1'),
        ('statement_timeout', '1d'), ('evergreen.wakes', 'on'), ('DateStyle', 'German'), ('row_security', 'off'),
        ('default_transaction_isolation', 'serializable'), ('default_transaction_read_only', 'on')) s (name, value)""",
    "CREATE TEMP TABLE docs (id int, body text)",
    "LISTEN alice",
    "UNLISTEN *",
    "NOTIFY evergreen_wake",
    "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "DISCARD PLANS",
    "SELECT setseed(0.5)",
]
REFUSED = ["SET ROLE postgres", "SET SESSION AUTHORIZATION alice", "DISCARD ALL", "COMMIT"]
STATE = """
SELECT ARRAY(SELECT ROW(classid, objid, objsubid, mode)::text FROM pg_locks
             WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY 1),
       ARRAY(SELECT name || statement FROM pg_prepared_statements ORDER BY 1),
       ARRAY(SELECT name || coalesce(setting, '') FROM pg_settings WHERE source = 'session' ORDER BY 1),
       ARRAY(SELECT pg_listening_channels() ORDER BY 1),
       ARRAY(SELECT relname FROM pg_class WHERE pg_my_temp_schema() = relnamespace ORDER BY 1),
       ARRAY(SELECT name FROM pg_cursors WHERE is_holdable), current_user, session_user
"""


@pytest.fixture
def plant(db, connect, dsn):
    """Alice's table; a function that has her code do something, in a new session that has something of its own."""
    people(db)
    hash_model(db)
    alice = connect("alice")
    alice.execute(PLANT)

    def act(road, *statements):
        heard = []
        session = connect(prepare_threshold=None)
        session.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        session.execute("SELECT pg_advisory_lock(42), pg_advisory_lock_shared(42, 42), pg_advisory_lock(42)")
        session.execute("LISTEN mine; SET work_mem = '5MB'; PREPARE mine AS SELECT 1; CREATE TEMP TABLE own (n int)")
        session.execute("DECLARE mine CURSOR WITH HOLD FOR SELECT 1")
        before = session.execute(STATE).fetchone()
        alice.execute("TRUNCATE alice.orders; UPDATE alice.docs SET body = body || '.'")
        for statement in statements:
            alice.execute("INSERT INTO alice.orders VALUES (%s)", (statement,))
        session.execute(ROADS[road])
        done = {said.removeprefix("done: ") for said in heard if said.startswith("done: ")}
        return session, before, done

    return act


@pytest.mark.few(2)
@pytest.mark.parametrize("road", ROADS)
def test_nothing_is_left(plant, road):
    session, before, done = plant(road, *MISCHIEF, *REFUSED)
    assert done == set(MISCHIEF), "her code runs, and what is refused is refused"
    assert session.execute(STATE).fetchone() == before
    released = [session.execute("SELECT pg_advisory_unlock(42)").fetchone()[0] for _ in range(2)]
    assert released == [True, True]


@pytest.mark.parametrize("road", ["drain", "work", "status"])
def test_locks_that_are_given_up_are_taken_again(db, plant, road):
    session, before, done = plant(road, "SELECT pg_advisory_unlock_all()")
    assert done
    assert session.execute(STATE).fetchone() == before
    if road == "work":
        assert status_of(db, "fresh", "hers") == 5


def test_more_of_a_slots_lock_does_not_outlive_the_call(plant, db):
    session, before, done = plant("work", "SELECT pg_advisory_lock(1163285063, 1) FROM generate_series(1, 3)")
    assert done
    assert session.execute(STATE).fetchone() == before


def test_the_seed_of_the_session_tells_no_token(db, connect, plant):
    """It could be known before, and its lock be held: the worker would look dead."""
    plant("drain", "SELECT setseed(0.5)")
    tokens = set()
    for _ in range(2):
        session = connect()
        session.execute("UPDATE alice.docs SET body = body || '.'")
        session.execute("SELECT setseed(0.5)")
        (token,) = session.execute("SELECT DISTINCT token FROM embed_claim('hers', 100)").fetchone()
        session.execute("SELECT embed_release('hers', %s)", (token,))
        tokens.add(token & 16777215)
    assert len(tokens) == 2


REPLACE = ["DEALLOCATE mine", "PREPARE mine AS SELECT current_user::text AS seized"]


@pytest.mark.parametrize("road", ["drain", "work", "status"])
def test_a_prepared_statement_of_the_clients_is_never_the_owners(db, plant, road):
    """It would run as the client. What the client has then is an error, and the pipeline says why."""
    session, _, done = plant(road, *REPLACE)
    assert done == set(REPLACE)
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        session.execute("EXECUTE mine")
    if road == "drain":
        assert "prepared statement mine" in status_of(db, "last_error", "hers")


@pytest.mark.parametrize("statement", ["DEALLOCATE ALL", "CLOSE ALL"])
def test_what_cannot_be_given_back_stops_the_pipeline_and_no_other(db, connect, plant, statement):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'body')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    _, _, done = plant("drain", statement)
    assert done == {statement}
    assert status_of(db, "fresh", "docs") == 1
    assert "removed from this session" in status_of(db, "last_error", "hers")
    assert status_of(db, "fresh", "hers") == 0
