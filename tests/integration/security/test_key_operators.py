"""Operators, estimators, planner support and operator classes of a key's type: none of a user's runs in our tables.

A role without superuser can plant operators of any name for its types, with the server's estimators, which run them on
kept values. For its casts and domain checks see ``test_planted_types.py``. All else needs a superuser, as tests here
show. An operator class that a superuser made is refused when one of its functions belongs to another role.
"""

import psycopg
import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.roles import hash_model, people
from tests.fixtures.takeover import CREATE, EVIL, assert_no_takeover

pytestmark = pytest.mark.shared_database


@pytest.fixture
def alice(db, connect):
    people(db)
    hash_model(db)
    yield connect("alice")
    db.execute("ALTER ROLE alice NOSUPERUSER")


OPERATORS = {
    "=": "eqsel, join = eqjoinsel",
    "<>": "neqsel, join = neqjoinsel",
    "<": "scalarltsel, join = scalarltjoinsel",
    "<=": "scalarlesel, join = scalarlejoinsel",
    ">": "scalargtsel, join = scalargtjoinsel",
    ">=": "scalargesel, join = scalargejoinsel",
}
MOOD = "CREATE TYPE alice.mood AS ENUM ('sad', 'glad', 'mad');"
TYPES = {"mood": MOOD, "times": "CREATE TYPE alice.times AS RANGE (subtype = time)"}
VALUES = {"mood": ("sad", "glad", "mad"), "times": ("[10:00,11:00)", "[11:00,12:00)", "[12:00,13:00)")}
LIVE = [
    "SELECT public.embed_drain()",
    "CALL public.embed_work(until_empty => true, max_runtime => '5 s')",
    "SELECT key, chunk, is_stale FROM alice.docs_embedding",
    "SELECT a.key FROM alice.docs_embedding a JOIN alice.docs_embedding b USING (key)",
    "SELECT public.embed_search('docs', 'q')",
    "SELECT public.embed_search('docs', 'body', mode => 'keyword')",
    "SELECT public.embed_search_rows(NULL::alice.docs, 'q')",
    "SELECT public.embed_verify('docs', repair => true)",
    "SELECT public.embed_explain('docs', key) FROM (SELECT key FROM alice.docs_embedding LIMIT 1) k",
    "SELECT public.embed_touch('docs', key) FROM (SELECT key FROM alice.docs_embedding LIMIT 1) k",
    "SELECT public.embed_backfill('docs')",
    "SELECT state, pending FROM public.embed_status",
    "UPDATE alice.docs SET body = body || '!'",
    "SELECT public.embed_build('docs', columns => '{body}')",
    "CALL public.embed_work(until_empty => true, max_runtime => '5 s')",
    "SELECT public.embed_promote('docs')",
    "DELETE FROM alice.docs",
    "SELECT public.embed_drain()",
]


def plant_operators(alice, schema, type_name):
    """Operators that fit the type exactly, with estimators that run them."""
    for number, (name, estimators) in enumerate(OPERATORS.items()):
        function = f"{schema}.{type_name}_{number}"
        alice.execute(
            f"""CREATE FUNCTION {function}(a alice.{type_name}, b alice.{type_name}) RETURNS boolean IMMUTABLE
                LANGUAGE plpgsql AS $$BEGIN PERFORM alice.spy(); RETURN false; END$$;
                CREATE OPERATOR {schema}.{name} (leftarg = alice.{type_name}, rightarg = alice.{type_name},
                                                 function = {function}, restrict = {estimators})"""
        )


@pytest.mark.few(2)
@pytest.mark.slow
@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("path", ["alice,pg_catalog,public", "pg_catalog,public"])
def test_operators_planted_for_a_keys_type_are_not_used(db, connect, alice, type_name, path):
    """Neither found by name nor estimated: the operators are those of the key's index."""
    alice.execute(EVIL + TYPES[type_name])
    alice.execute(f"CREATE TABLE alice.docs (id alice.{type_name} PRIMARY KEY, body text)")
    for number, value in enumerate(VALUES[type_name]):
        alice.execute("INSERT INTO alice.docs VALUES (%s, %s)", (value, f"body {number}"))
    db.execute("GRANT CREATE ON SCHEMA public TO alice")
    for schema in ("alice", "public"):
        plant_operators(alice, schema, type_name)
    alice.execute(f"SET search_path = {path}")
    alice.execute(CREATE)
    worker = connect(options=f"-c search_path={path}")
    for statement in LIVE:
        worker.execute(statement)
    assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,)
    assert_no_takeover(db)


ESTIMATE = "CREATE FUNCTION alice.estimate(internal, oid, internal, int) RETURNS float8"
# 42501: insufficient privilege. 0A000 and 42P13: no language of hers takes an argument of type internal.
SUPERUSERS_ONLY = {
    # Without one there is neither a base type nor a range's canonical function.
    "a shell type": ("CREATE TYPE alice.shell", "42501"),
    "a function in C": ("CREATE FUNCTION alice.c() RETURNS int LANGUAGE internal AS 'pg_backend_pid'", "42501"),
    "planner support": (
        "CREATE FUNCTION alice.f() RETURNS int LANGUAGE sql SUPPORT generate_series_int4_support AS 'SELECT 1'",
        "42501",
    ),
    "an estimator in PL/pgSQL": (f"{ESTIMATE} LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "0A000"),
    "an estimator in SQL": (f"{ESTIMATE} LANGUAGE sql AS 'SELECT 1.0'", "42P13"),
    "an estimator of another kind": (
        "CREATE OPERATOR alice.= (leftarg = alice.mood, rightarg = alice.mood, function = alice.eq, join = alice.eq)",
        "42883",
    ),
    "an operator class": (
        "CREATE OPERATOR CLASS alice.moods FOR TYPE alice.mood USING btree AS FUNCTION 1 enum_cmp(anyenum, anyenum)",
        "42501",
    ),
    "an operator family": ("CREATE OPERATOR FAMILY alice.moods USING btree", "42501"),
    "a member of an operator family": (
        "ALTER OPERATOR FAMILY pg_catalog.enum_ops USING btree ADD FUNCTION 1 enum_cmp(alice.mood, alice.mood)",
        "42501",
    ),
    "a binary cast": ("CREATE CAST (alice.mood AS int) WITHOUT FUNCTION", "42501"),
    "an access method": ("CREATE ACCESS METHOD mine TYPE INDEX HANDLER bthandler", "42501"),
    "statistics on a generation": ("CREATE STATISTICS alice.s ON k1, chunk FROM embed_store.g1", "42501"),
    "a statistics target of a generation": ("ALTER TABLE embed_store.g1 ALTER k1 SET STATISTICS 100", "42501"),
}


@pytest.mark.few(4)
@pytest.mark.fresh_database
@pytest.mark.slow
@pytest.mark.parametrize("kind", SUPERUSERS_ONLY)
def test_what_only_a_superuser_adds_to_a_type(db, alice, kind):
    """The server refuses it; a version that does not needs a guard of ours."""
    alice.execute(MOOD + "CREATE TABLE alice.docs (id alice.mood PRIMARY KEY, body text)")
    alice.execute("CREATE FUNCTION alice.eq(alice.mood, alice.mood) RETURNS bool LANGUAGE sql AS 'SELECT true'")
    alice.execute(CREATE)
    db.execute("GRANT USAGE ON SCHEMA embed_store TO alice")  # even then
    statement, sqlstate = SUPERUSERS_ONLY[kind]
    with pytest.raises(psycopg.Error) as refusal:
        alice.execute(statement)
    assert refusal.value.sqlstate == sqlstate


# Functions that a role without superuser can write, by where an operator class of a superuser names them.
SUPPORT = {
    "btree, comparison": ("1", "compare(alice.mood, alice.mood)", "int", "RETURN enum_cmp($1, $2);"),
    "btree, in_range": (
        "3",
        "in_range(alice.mood, alice.mood, alice.mood, bool, bool)",
        "bool",
        "RETURN true;",
    ),
    "btree, equalimage": ("4", "equal_image(oid)", "bool", "RETURN true;"),
    "hash": ("1", "hashed(alice.mood)", "int", "RETURN hashenum($1);"),
    "hash, extended": ("2", "hashed(alice.mood, bigint)", "bigint", "RETURN hashenumextended($1, $2);"),
}
OF_ENUMS = {"<": "enum_lt", "<=": "enum_le", "=": "enum_eq", ">=": "enum_ge", ">": "enum_gt"}


def make_operators(db):
    """As a superuser, and by the server's functions."""
    for name, function in OF_ENUMS.items():
        db.execute(
            f"""CREATE FUNCTION alice.{function}(alice.mood, alice.mood) RETURNS bool IMMUTABLE LANGUAGE internal
                AS '{function}'; ALTER FUNCTION alice.{function} OWNER TO CURRENT_USER;
                CREATE OPERATOR alice.{name} (leftarg = alice.mood, rightarg = alice.mood,
                                              function = alice.{function})"""
        )


def make_class(db, method, support):
    """Make the type's default operator class; support: what is not the server's, number to function."""
    functions = {}
    if method == "btree":
        db.execute(
            "CREATE FUNCTION alice.cmp(alice.mood, alice.mood) RETURNS int IMMUTABLE LANGUAGE internal AS 'enum_cmp'"
        )
        functions["1"] = "alice.cmp(alice.mood, alice.mood)"
        operators = [f"OPERATOR {i} alice.{name} (alice.mood, alice.mood)" for i, name in enumerate(OF_ENUMS, 1)]
    else:
        db.execute("CREATE FUNCTION alice.hash(alice.mood) RETURNS int IMMUTABLE LANGUAGE internal AS 'hashenum'")
        functions["1"] = "alice.hash(alice.mood)"
        operators = ["OPERATOR 1 alice.= (alice.mood, alice.mood)"]
    parts = [*operators, *(f"FUNCTION {i} (alice.mood, alice.mood) {f}" for i, f in (functions | support).items())]
    db.execute(
        f"CREATE OPERATOR CLASS alice.{method}_moods DEFAULT FOR TYPE alice.mood USING {method} AS {', '.join(parts)}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUPPORT)
@pytest.mark.parametrize("key", ["alice.mood", "alice.mood[]"])
def test_each_support_function_of_another_role_is_refused(db, connect, alice, kind, key):
    """Index builds, sorts, joins and hashing run it, for a superuser and on our tables as the extension's owner."""
    alice.execute(EVIL + MOOD)
    make_operators(db)
    number, signature, returns, body = SUPPORT[kind]
    alice.execute(
        f"""CREATE FUNCTION alice.{signature} RETURNS {returns} IMMUTABLE LANGUAGE plpgsql AS
            $$BEGIN PERFORM alice.spy(); {body} END$$"""
    )
    make_class(db, kind.split(",")[0], {number: f"alice.{signature}"})
    alice.execute(f"CREATE TABLE alice.docs (id {key} PRIMARY KEY, body text)")
    error = refused(alice, CREATE, count_as=db)
    assert error.sqlstate == "0A000"
    assert f"alice.{signature.split('(')[0]}" in error.diag.message_hint
    assert_no_takeover(db)


@pytest.mark.parametrize("name", OF_ENUMS)
def test_each_operator_of_another_roles_function_is_refused(db, alice, name):
    """Index scans and the planner's look at an index's ends run it."""
    alice.execute(EVIL + MOOD)
    make_operators(db)
    make_class(db, "btree", {})
    alice.execute("CREATE TABLE alice.docs (id alice.mood PRIMARY KEY, body text)")
    db.execute(f"ALTER FUNCTION alice.{OF_ENUMS[name]}(alice.mood, alice.mood) OWNER TO alice")
    error = refused(alice, CREATE, count_as=db)
    assert error.sqlstate == "0A000"
    assert f"alice.{OF_ENUMS[name]}" in error.diag.message_hint


@pytest.mark.slow
@pytest.mark.parametrize("method", ["btree", "hash"])
def test_an_operator_class_of_a_superusers_functions_is_no_obstacle(db, alice, method):
    alice.execute(MOOD)
    make_operators(db)
    make_class(db, method, {})
    alice.execute("CREATE TABLE alice.docs (id alice.mood PRIMARY KEY, body text)")
    alice.execute("INSERT INTO alice.docs VALUES ('sad', 'body')")
    alice.execute(CREATE)
    assert db.execute("SELECT embed_drain()").fetchone() == (1,)
