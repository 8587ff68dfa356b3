"""What an owner puts in the place of a table, an operator or a schema runs only with the owner's rights."""

from contextlib import suppress

import pytest
from psycopg import Error, errors

from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

SETUP = """
CREATE TABLE alice.seen (who name, what text);
GRANT INSERT ON alice.seen TO PUBLIC;
CREATE FUNCTION alice.evil(what text = 'evil') RETURNS text LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO alice.seen VALUES (current_user, what); RETURN 'x'; END$$;
CREATE FUNCTION alice.constant() RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN PERFORM alice.evil('while planning'); RETURN 'x'; END$$;
CREATE TABLE alice.docs (id int PRIMARY KEY, body text);
INSERT INTO alice.docs VALUES (1, 'one');
SELECT public.embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8');
"""
EVIL_VIEW = "CREATE VIEW alice.docs AS SELECT 1 AS id, alice.evil() || alice.constant() AS body, 1::oid AS tableoid"
# How the table makes room for the view, while our event trigger can follow and while it cannot.
MAKE_ROOM = {
    "drop": "DROP TABLE alice.docs",
    "rename": "ALTER TABLE alice.docs RENAME TO moved",
    "set schema": "ALTER TABLE alice.docs SET SCHEMA bob",
}


@pytest.fixture
def alices(db, connect):
    people(db)
    hash_model(db)
    db.execute("GRANT CREATE ON SCHEMA bob TO alice")
    alice = connect("alice")
    alice.execute(SETUP)
    db.execute("SELECT embed_drain()")
    return alice


def read_everything(session):
    """Look at the pipeline in every way, as a superuser who suspects nothing."""
    for statement in (
        "SELECT * FROM alice.docs_embedding",
        "SELECT * FROM embed_search('docs', 'q')",
        "SELECT * FROM embed_search_rows(NULL::alice.docs, 'q', pipeline => 'docs')",
        "SELECT * FROM embed_status",
        "SELECT embed_explain('docs', '[1]')",
        "SELECT embed_verify('docs')",
        "SELECT embed_drain()",
        "CALL embed_work(until_empty => true, max_runtime => '5 s')",
        "SELECT * FROM embed_store.g1",
        "SET ROLE bob; SELECT * FROM alice.docs_embedding",
    ):
        with suppress(Error):  # a refusal is fine too
            session.execute(statement)
    session.execute("RESET ROLE")


@pytest.mark.few(2)
@pytest.mark.parametrize("room", MAKE_ROOM)
@pytest.mark.parametrize("locked", [False, True], ids=["followed", "not followed"])
def test_a_view_in_the_place_of_the_source_is_not_read(db, connect, alices, room, locked):
    """The event trigger swallows its errors, and a lock of the owner's on the pipeline is enough to make it fail."""
    holder = connect("alice", autocommit=False)
    if locked:
        holder.execute("""SELECT embed_alter('docs', '{"max_attempts": 7}')""")
    alices.execute(MAKE_ROOM[room])
    alices.execute(EVIL_VIEW)
    alices.execute("GRANT SELECT ON alice.docs TO bob")
    read_everything(connect())
    holder.rollback()
    read_everything(connect())
    assert db.execute("SELECT DISTINCT who, what FROM alice.seen WHERE who <> 'alice'").fetchall() == []


def test_a_view_in_the_place_of_ours_is_not_searched(db, connect, alices):
    """The owner of a schema may drop what others have in it."""
    db.execute("ALTER SCHEMA alice OWNER TO alice")
    alices.execute("DROP VIEW alice.docs_embedding")
    alices.execute(
        """CREATE VIEW alice.docs_embedding AS
           SELECT 1 AS id, '[1]'::jsonb AS key, 0 AS chunk_no, alice.evil() AS chunk, NULL::vector AS embedding,
                  false AS is_stale"""
    )
    superuser = connect()
    for call in ("embed_search('docs', 'q')", "embed_search_rows(NULL::alice.docs, 'q')"):
        with pytest.raises(errors.UndefinedTable) as caught:
            superuser.execute(f"SELECT * FROM {call}")
        assert "docs" in caught.value.diag.message_primary
        assert caught.value.diag.message_hint
    superuser.execute("SELECT embed_drain()")
    superuser.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT FROM alice.seen WHERE who <> 'alice'").fetchall() == []
    assert db.execute("SELECT to_regclass('alice.docs_embedding') IS NOT NULL").fetchone() == (True,)  # alice's own


_OPERATORS = [
    ("bigint", "bigint"), ("bigint", "integer"), ("integer", "integer"), ("integer", "bigint"), ("text", "text"),
    ("bytea", "bytea"), ("jsonb", "jsonb"), ("jsonb", "integer"), ("timestamptz", "timestamptz"), ("name", "name"),
    ("boolean", "boolean"), ("oid", "oid"), ("timestamptz", "interval"), ("xid8", "xid8"),
]  # fmt: skip


def plant_operators(alice, schema):
    """Operators that match exactly, for a search_path with this schema before pg_catalog, or with it at all."""
    for left, right in _OPERATORS:
        for name in ("=", "<>", "<", "<=", ">", ">=", "%", "+", "-", "||", "->>", "->", "~~"):
            returns = "boolean" if name in {"=", "<>", "<", "<=", ">", ">=", "~~"} else left
            function = f"{schema}.planted_{left}_{right}_{returns}"
            alice.execute(
                f"""CREATE OR REPLACE FUNCTION {function}({left}, {right}) RETURNS {returns} LANGUAGE plpgsql AS
                    $$BEGIN PERFORM alice.evil('operator'); RETURN NULL; END$$;
                    CREATE OPERATOR {schema}.{name} (leftarg = {left}, rightarg = {right}, function = {function})"""
            )
    for name, arguments in (("num_nulls", "VARIADIC text[]"), ("coalesce_", "int"), ("now", ""), ("count", "text")):
        alice.execute(
            f"""CREATE FUNCTION {schema}.{name}({arguments}) RETURNS int LANGUAGE plpgsql AS
                $$BEGIN PERFORM alice.evil('function'); RETURN 0; END$$"""
        )
    for name in ("int4", "int8", "text", "jsonb", "regclass", "vector", "bytea"):
        alice.execute(f"CREATE DOMAIN {schema}.{name} AS pg_catalog.text CHECK (alice.evil('type') = 'y')")


@pytest.mark.parametrize("path", ["alice, pg_catalog, public", "public, alice"])
def test_operators_functions_and_types_on_the_search_path_are_not_used(db, connect, alices, path):
    """Neither when they come before pg_catalog nor when only they fit exactly."""
    plant_operators(alices, "alice")
    db.execute("INSERT INTO alice.docs VALUES (2, 'two')")
    worker = connect(options=f"-c search_path={path.replace(' ', '')}")
    for statement in (
        "CALL public.embed_work(until_empty => true, max_runtime => '5 s')",
        "SELECT public.embed_drain()",
        "SELECT key, chunk, is_stale FROM alice.docs_embedding",
        "SELECT public.embed_search('docs', 'q')",
        "SELECT public.embed_search_rows(NULL::alice.docs, 'q')",
        "SELECT public.embed_verify('docs')",
        "SELECT public.embed_explain('docs', '[1]')",
        "SELECT public.embed_touch('docs', '[1]')",
        "SELECT state, pending FROM public.embed_status",
        "UPDATE alice.docs SET body = 'new'",
        "DELETE FROM alice.docs",
        "SELECT public.embed_create('more', 'alice.docs', columns => '{body}')",
        "SELECT public.embed_drop('more')",
    ):
        worker.execute(statement)
    assert db.execute("SELECT DISTINCT who, what FROM alice.seen WHERE who <> 'alice'").fetchall() == []


def test_a_schema_that_waits_for_us_is_refused(db, connect):
    """Who owns embed_store could replace what is in it."""
    people(db)
    db.execute("CREATE SCHEMA embed_store AUTHORIZATION alice")
    alice = connect("alice")
    alice.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    for session in (alice, db):
        with pytest.raises(errors.InsufficientPrivilege) as caught:
            session.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}')")
        assert caught.value.diag.message_hint
    alice.execute("CREATE FUNCTION alice.model(text[]) RETURNS vector[] LANGUAGE sql AS 'SELECT NULL::vector[]'")
    with pytest.raises(errors.InsufficientPrivilege):
        db.execute("SELECT embed_model_add('m', 'function', 2, 'alice.model')")


def test_functions_that_wait_for_ours_become_ours(db, connect):
    """Who may create in embed_store makes them first, under the names to come, and would replace them later."""
    people(db)
    hash_model(db)
    db.execute("CREATE SCHEMA embed_store; GRANT ALL ON SCHEMA embed_store TO alice")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'one')")
    alice = connect("alice")
    alice.execute(SETUP.partition("CREATE TABLE alice.docs")[0])
    columns = "TABLE (k1 pg_catalog.int4, h bytea, shows_stale boolean)"
    src = f"CREATE OR REPLACE FUNCTION embed_store.src_{{}}() RETURNS {columns} LANGUAGE plpgsql STABLE AS"
    capture = "CREATE OR REPLACE FUNCTION embed_store.capture_{}() RETURNS trigger LANGUAGE plpgsql AS"
    numbers = range(1, 6)
    for number in numbers:
        alice.execute(f"{src.format(number)} 'BEGIN END'; {capture.format(number)} 'BEGIN END'")
    for name in ("docs", "more"):
        db.execute(
            "SELECT embed_create(%s, 'docs', columns => '{body}', model => 'hash8', view_name => %s)", [name, name * 2]
        )
    evil = "$$BEGIN PERFORM alice.evil(); RETURN NEW; END$$"
    for number in numbers:
        for statement in (
            f"{src.format(number)} $$BEGIN PERFORM alice.evil(); END$$",
            f"{capture.format(number)} {evil}",
            f"ALTER FUNCTION embed_store.capture_{number}() SECURITY INVOKER",
        ):
            with suppress(Error):
                alice.execute(statement)
    read_everything(connect())
    db.execute("INSERT INTO docs VALUES (2, 'two')")
    for name in ("docs", "more"):
        db.execute("SELECT embed_drain()")
        assert db.execute(f"SELECT count(*) FROM {name * 2}").fetchone() == (2,)
        db.execute("SELECT embed_drop(%s)", [name])
    assert db.execute("SELECT DISTINCT who FROM alice.seen WHERE who <> 'alice'").fetchall() == []
    with pytest.raises(errors.InsufficientPrivilege):
        alice.execute("CREATE TABLE embed_store.g9 (id int)")
