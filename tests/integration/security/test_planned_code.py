"""An owner's immutable functions run as the owner while a query on the table is planned, for workers and readers.

The planner runs them: those in conditions and expressions of indexes and in extended statistics, as soon as a session
has its first query on the table. A superuser's count(*) was enough to be taken over.
"""

from contextlib import suppress

import psycopg
import pytest

from tests.fixtures.roles import hash_model, people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

PLANT = """
CREATE FUNCTION alice.constant(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$BEGIN RAISE NOTICE 'planned as % for %', current_user, what; RETURN true; END$$;
CREATE TABLE alice.plain (id int PRIMARY KEY, title text, body text, CHECK (alice.constant('check')));
CREATE TABLE alice.parted (id int PRIMARY KEY, title text, body text) PARTITION BY LIST (id);
CREATE TABLE alice.first PARTITION OF alice.parted FOR VALUES IN (1);
CREATE TABLE alice.others PARTITION OF alice.parted DEFAULT;
"""
PLANT_IN = """
CREATE INDEX ON alice.{table} (title) WHERE alice.constant('index');
CREATE INDEX ON alice.{table} (title, (alice.constant('index expression')));
CREATE STATISTICS alice.of_{table} ON (alice.constant('statistics')), (title || 'x') FROM alice.{table};
INSERT INTO alice.{table} SELECT i, 'title', 'body ' || i FROM generate_series(1, 3) i;
"""
# Each is done in a session of its own: what the planner has found stays in a session's memory.
ADMINISTER = [
    "SELECT embed_create('{0}', 'alice.{0}', columns => '{{title,body}}', model => 'hash8')",
    "SELECT * FROM embed_status",
    "SELECT * FROM embed_pipelines, embed_usage, embed_failures",
    "SELECT embed_estimate('{0}')",
    "SELECT embed_explain('{0}', '[1]')",
    "SELECT embed_verify('{0}', repair => true)",
    "SELECT embed_touch('{0}', '[1]', '[9]')",
    "SELECT embed_retry('{0}')",
    "SELECT embed_backfill('{0}')",
    "SELECT embed_forget('{0}', '[2]')",
    "SELECT embed_get_def('{0}')",
    """SELECT embed_alter('{0}', '{{"max_attempts": 3}}')""",
    "SELECT embed_pause('{0}'), embed_resume('{0}')",
    "SELECT embed_drop('{0}')",
]
WORK = ["SELECT embed_drain()", "CALL embed_work(until_empty => true, max_runtime => '10 s')"]
CHANGE = [
    "UPDATE alice.{0} SET body = body || '!'",
    "DELETE FROM alice.{0} WHERE id = 3",
    "ALTER TABLE alice.{0} ADD COLUMN more int",
    "ALTER TABLE alice.{0} ALTER title TYPE varchar",
    "ALTER TABLE alice.{0} RENAME title TO headline",
    "ALTER TABLE alice.{0} RENAME headline TO title",
    "TRUNCATE alice.{0}",
]
ASK = [
    "SELECT * FROM alice.{0}_embedding",
    "SELECT * FROM embed_search('{0}', 'q')",
    "SELECT * FROM embed_search_rows(NULL::alice.{0}, 'q', pipeline => '{0}')",
    "SELECT * FROM embed_preview('alice.{0}', '{{body}}')",
]


@pytest.fixture
def planned(db, connect, dsn):
    """Alice's tables, and a function from (role, statement) to the roles as which her function ran."""
    people(db)
    hash_model(db)
    alice = connect("alice")
    alice.execute(PLANT)
    for table in ("plain", "parted"):
        alice.execute(PLANT_IN.format(table=table))
        alice.execute(f"GRANT SELECT ON alice.{table} TO bob")

    def run(role, statement):
        heard = []
        with psycopg.connect(dsn, user=role, autocommit=True) as session:
            session.add_notice_handler(lambda notice: heard.append(notice.message_primary.split()))
            session.execute(statement)
        return {words[2] for words in heard if words[:2] == ["planned", "as"]}

    return run


@pytest.mark.parametrize("table", ["plain", pytest.param("parted", marks=pytest.mark.stress)])
def test_nothing_is_planned_as_the_extension_or_a_worker(db, planned, table):
    create, *others, drop = (statement.format(table) for statement in ADMINISTER)
    found = {("alice", create): planned("alice", create)}
    for statement in WORK:
        for role in ("postgres", "the_worker"):
            db.execute(f"UPDATE alice.{table} SET body = body || '.'")
            found[role, statement] = planned(role, statement)
    assert {"alice"} in found.values(), "what is planted runs at all"
    for statement in others:
        for role in ("alice", "postgres"):
            found[role, statement] = planned(role, statement)
    for statement in (one.format(table) for one in CHANGE):
        found["alice", statement] = planned("alice", statement)
    found["the_admin", drop] = planned("the_admin", drop)
    found["postgres", create] = planned("postgres", create)
    assert {call: roles for call, roles in found.items() if roles - {"alice"}} == {}


def test_what_a_role_asks_for_is_planned_as_that_role_at_most(db, planned):
    planned("alice", ADMINISTER[0].format("plain"))
    db.execute("SELECT embed_drain()")
    for statement in (one.format("plain") for one in ASK):
        assert planned("bob", statement) <= {"bob", "alice"}, statement


def test_counting_rows_leaves_nothing_of_the_owners_behind(db, connect, planned):
    """Otherwise a deferred trigger would fire at COMMIT, as the reader."""
    alice = connect("alice")
    alice.execute(
        """
        CREATE TABLE alice.trap (who name);
        CREATE FUNCTION alice.spring() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN RAISE NOTICE 'planned as % at COMMIT', current_user; RETURN NULL; END$$;
        CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON alice.trap DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION alice.spring();
        """
    )
    planned("alice", ADMINISTER[0].format("plain"))
    alice.execute(
        """
        CREATE FUNCTION alice.lay() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO alice.trap VALUES (current_user);
            RAISE NOTICE 'planned as % to lay a trap', current_user;
            RETURN true;
        END$$;
        CREATE OR REPLACE FUNCTION alice.constant(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
            $$BEGIN RETURN alice.lay(); END$$;
        """
    )
    looking = "SELECT * FROM embed_status; SELECT embed_explain('plain', '[1]'); SELECT embed_touch('plain', '[1]')"
    for statement in (*looking.split("; "), WORK[0]):
        assert planned("postgres", statement) == {"alice"}, statement
    assert db.execute("SELECT count(*) FROM alice.trap").fetchone() == (0,)


def test_a_table_that_cannot_be_counted_is_estimated(db, connect, planned):
    """The owner's lock and errors do not prevent other roles from reading the views."""
    planned("alice", ADMINISTER[0].format("plain"))
    look = "SELECT pipeline, rows IS NOT NULL FROM embed_status"
    holder = connect("alice", autocommit=False)
    holder.execute("LOCK TABLE alice.plain IN ACCESS EXCLUSIVE MODE")
    db.execute("SET statement_timeout = '10 s'")
    assert db.execute(look).fetchall() == [("plain", True)]
    holder.rollback()
    holder.execute(
        """CREATE OR REPLACE FUNCTION alice.constant(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
           $$BEGIN RAISE EXCEPTION 'no'; END$$"""
    )
    holder.commit()
    assert connect().execute(look).fetchall() == [("plain", True)]


FUNCTIONS = ["reader_1(jsonb)", "scan_1(jsonb, int)", "key_1(jsonb)", "count_1()"]


@pytest.mark.fresh_database
def test_functions_of_hers_that_she_altered_are_not_run(db, connect, planned):
    """They belong to her. Only that she cannot name them keeps her from it, and a grant or default privileges may."""
    planned("alice", ADMINISTER[0].format("plain"))
    db.execute("SELECT embed_drain()")
    db.execute("GRANT USAGE ON SCHEMA embed_store TO alice")
    alice = connect("alice")
    for statement in (call.format("plain") for call in [*ADMINISTER[1:-1], *WORK]):
        for function in FUNCTIONS:
            alice.execute(f"ALTER FUNCTION embed_store.{function} SECURITY INVOKER")
        db.execute("UPDATE alice.plain SET body = body || '.'")
        with suppress(psycopg.errors.ObjectNotInPrerequisiteState):  # which says that embed_drain() restores them
            assert planned("postgres", statement) <= {"alice"}, statement
    assert db.execute("SELECT count(*) FROM alice.plain_embedding WHERE NOT is_stale").fetchone() == (3,)
