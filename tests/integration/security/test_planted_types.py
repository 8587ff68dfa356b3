"""A table owner's types, casts, domain checks, triggers and policies run as the owner, in every worker.

Every planted function writes down who it runs as. Deferred triggers and WITH HOLD cursors matter because they run at
COMMIT, when the function that protected the worker has long returned.
"""

import pytest
from psycopg import errors

from tests.fixtures.error_checks import refused
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

SPIES = """
CREATE TABLE alice.seen (who name, what text);
GRANT INSERT ON alice.seen TO PUBLIC;
CREATE FUNCTION alice.spy(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alice.seen VALUES (current_user, what);
    INSERT INTO alice.trap SELECT what WHERE current_user = 'alice';
    RETURN true;
END $$;
CREATE TABLE alice.trap (what text);
CREATE FUNCTION alice.spring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alice.seen VALUES (current_user, NEW.what || ', deferred');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON alice.trap DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION alice.spring();

CREATE TYPE alice.mood AS ENUM ('sad', 'glad');
CREATE DOMAIN alice.checked AS int CHECK (alice.spy('domain check'));
CREATE DOMAIN alice.checked_text AS text CHECK (alice.spy('domain check of text'));
CREATE TYPE alice.plain AS (a int, b alice.mood);
CREATE TYPE alice.pair AS (a alice.checked, b alice.checked_text);
CREATE TYPE alice.span AS RANGE (subtype = alice.checked);
"""
CASTS = """
CREATE FUNCTION alice.{name}_{target}(v alice.{name}) RETURNS {target} LANGUAGE plpgsql AS
    $$BEGIN PERFORM alice.spy('cast {name} to {target}'); RETURN '{value}'; END$$;
CREATE CAST (alice.{name} AS {target}) WITH FUNCTION alice.{name}_{target}(alice.{name}) AS {when};
"""
BACK = """
CREATE FUNCTION alice.{name}_from_{target}(v {target}) RETURNS alice.{name} LANGUAGE plpgsql AS
    $$BEGIN PERFORM alice.spy('cast {target} to {name}'); RETURN '{back}'::alice.{name}; END$$;
CREATE CAST ({target} AS alice.{name}) WITH FUNCTION alice.{name}_from_{target}({target}) AS IMPLICIT;
"""
KEYS = {
    "enum": ("alice.mood", "glad"),
    "array of an enum": ("alice.mood[]", "{sad,glad}"),
    "domain": ("alice.checked", "1"),
    "domain of text": ("alice.checked_text", "a"),
}
# Their input functions run the checks wherever such a value is made, also where the worker writes it down.
# A composite may get an attribute of such a type later.
REFUSED_KEYS = ["alice.checked[]", "alice.pair", "alice.pair[]", "alice.span", "alice.plain", "alice.plain[]"]
WORKERS = ["SELECT embed_drain()", "CALL embed_work(until_empty => true, max_runtime => '10 s')"]


@pytest.fixture
def spies(db, connect):
    people(db)
    hash_model(db)
    alice = connect("alice")
    alice.execute(SPIES)
    # An enum with implicit casts is beyond use as a key: = is ambiguous, for its owner too.
    for name, when, back in (("mood", "ASSIGNMENT", "glad"), ("pair", "IMPLICIT", "(1,x)")):
        for target, text in (("text", "t"), ("json", '"j"'), ("jsonb", '"j"'), ("bytea", "b")):
            alice.execute(CASTS.format(name=name, target=target, value=text, when=when))
            alice.execute(BACK.format(name=name, target=target, back=back))
    return alice


def seen(db):
    """What ran, by whom it ran as, since the last look."""
    rows = db.execute("SELECT what, who FROM alice.seen").fetchall()
    db.execute("TRUNCATE alice.seen, alice.trap")
    return {what: {who for w, who in rows if w == what} for what, _ in rows}


def only_alice(found):
    return all(who == {"alice"} for who in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKERS)
def test_types_of_keys_and_columns_run_as_the_owner(db, spies, work):
    for type_name, value in KEYS.values():
        spies.execute(
            f"""CREATE TABLE alice.docs (id {type_name} PRIMARY KEY, body text, m alice.mood, p alice.pair,
                                         c alice.checked, r alice.span, l alice.checked[])"""
        )
        insert = "INSERT INTO alice.docs VALUES (%s, 'body', 'sad', '(1,x)', 5, '[1,3)', '{7,8}')"
        spies.execute(insert, (value,))
        spies.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body,m,p,c,r,l}', model => 'hash8')")
        seen(db)
        live_with(db, work)
        spies.execute("SELECT embed_drop('docs'); DROP TABLE alice.docs")


def live_with(db, work):
    """Everything a superuser does with a pipeline of alice's: nothing may run as the superuser, not even at COMMIT."""
    db.execute(work)
    assert db.execute("SELECT count(*) FROM alice.docs_embedding").fetchone() == (1,)
    found = seen(db)
    assert only_alice(found), found
    stored = db.execute("SELECT key::text FROM alice.docs_embedding WHERE NOT is_stale").fetchone()[0]
    for statement in (
        "SELECT embed_explain('docs', %s::jsonb)",
        "SELECT embed_touch('docs', %s::jsonb)",
        "SELECT embed_verify('docs', %s::jsonb IS NULL)",
        "SELECT * FROM embed_search('docs', %s::jsonb::text)",
        "SELECT * FROM embed_search_rows(NULL::alice.docs, %s::jsonb::text)",
        "SELECT key, is_stale, %s::jsonb FROM alice.docs_embedding",
    ):
        db.execute(statement, (stored,))
        found = seen(db)
        assert only_alice(found), (statement, found)
    db.execute("UPDATE alice.docs SET body = 'new'")  # nothing of alice's belongs to these: they are capture alone
    db.execute("DELETE FROM alice.docs")
    assert seen(db) == {}
    db.execute(work)
    found = seen(db)
    assert only_alice(found), found
    assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,)


def test_keys_with_a_domain_inside_or_room_for_one_are_refused(spies, db):
    for number, type_name in enumerate(REFUSED_KEYS):
        spies.execute(f"CREATE TABLE alice.docs{number} (id {type_name} PRIMARY KEY, body text)")
        create = f"SELECT embed_create('docs', 'alice.docs{number}', columns => '{{body}}')"
        error = refused(spies, create, count_as=db)
        assert error.sqlstate == "0A000"
        assert '"id"' in error.diag.message_primary


TABLE = """
CREATE FUNCTION alice.generate(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
    $$BEGIN PERFORM alice.spy('generated column'); RETURN upper(t); END$$;
CREATE TABLE alice.docs (id int PRIMARY KEY, body text, tenant name,
                         shout text GENERATED ALWAYS AS (alice.generate(body)) STORED);
CREATE FUNCTION alice.before() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM alice.spy('trigger'); NEW.body = NEW.body || '!'; RETURN NEW; END$$;
CREATE TRIGGER a_before BEFORE INSERT OR UPDATE ON alice.docs FOR EACH ROW EXECUTE FUNCTION alice.before();
CREATE FUNCTION alice.policy() RETURNS boolean LANGUAGE plpgsql STABLE AS
    $$BEGIN RAISE NOTICE 'policy as %', current_user; RETURN true; END$$;
ALTER TABLE alice.docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON alice.docs USING (alice.policy());
CREATE INDEX ON alice.docs (alice.generate(body)) WHERE alice.generate(body) <> '';
GRANT SELECT ON alice.docs TO bob;
"""


@pytest.mark.parametrize("work", WORKERS)
def test_triggers_generated_columns_indexes_and_policies_run_as_the_owner_or_the_asker(db, connect, spies, work):
    spies.execute(TABLE)
    spies.execute("INSERT INTO alice.docs SELECT i, 'body ' || i, 'alice' FROM generate_series(1, 3) i")
    spies.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body,shout}', model => 'hash8')")
    seen(db)
    heard = []
    for session in (db, bob := connect("bob")):
        session.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    for statement in (work, "SELECT embed_verify('docs')", "SELECT embed_explain('docs', '[1]')"):
        db.execute(statement)
    assert db.execute("SELECT count(*) FROM alice.docs_embedding").fetchone() == (3,)
    assert [words for words in heard if words.startswith("policy")] == []
    found = seen(db)
    assert only_alice(found), found
    for statement in ("SELECT FROM alice.docs_embedding", "SELECT FROM embed_search('docs', 'q')"):
        assert len(bob.execute(statement).fetchall()) == 3
    assert {words for words in heard if words.startswith("policy")} == {"policy as bob"}


@pytest.mark.fresh_database
def test_only_a_superuser_can_make_event_triggers_and_nobody_triggers_on_generation_tables(db, spies):
    """What the rest of this file could not catch: code that runs inside our own DDL and our own writes."""
    spies.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    spies.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    db.execute("GRANT USAGE ON SCHEMA embed_store TO alice")  # even then
    spies.execute("CREATE FUNCTION alice.event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
    for statement in (
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION alice.event()",
        "CREATE TRIGGER t BEFORE INSERT ON embed_store.g1 FOR EACH ROW EXECUTE FUNCTION alice.spring()",
        "CREATE RULE r AS ON INSERT TO embed_store.g1 DO ALSO SELECT alice.spy('rule')",
        "CREATE POLICY p ON embed_store.g1 USING (alice.spy('policy'))",
        "CREATE INDEX ON embed_store.g1 ((alice.spy(chunk)))",
        "INSERT INTO embed_store.g1 DEFAULT VALUES",
        "DELETE FROM embed_store.g1",
        "CREATE RULE r AS ON SELECT TO alice.docs_embedding DO INSTEAD SELECT 1",
        "ALTER VIEW alice.docs_embedding RENAME TO gone",
        "CREATE OR REPLACE VIEW alice.docs_embedding AS SELECT 1",
        "CREATE OR REPLACE FUNCTION embed_store.capture_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            spies.execute(statement)


def test_the_owner_cannot_reach_the_functions_that_run_as_the_owner(db, spies):
    spies.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    spies.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    for statement in (
        "ALTER FUNCTION embed_store.reader_1(jsonb) SECURITY INVOKER",
        "ALTER FUNCTION embed_store.reader_1(jsonb) RESET ALL",
        "CREATE OR REPLACE FUNCTION embed_store.key_1(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'",
        "DROP FUNCTION embed_store.scan_1(jsonb, int)",
        "GRANT EXECUTE ON FUNCTION embed_store.reader_1(jsonb) TO PUBLIC",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA embed_store TO PUBLIC",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            spies.execute(statement)
