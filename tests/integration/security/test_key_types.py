"""Nothing that a user defines runs as the owner of the store: the kind is code of a key's type, run on our own tables.

Values of users' types stand in the key columns (k1, k2, …) of generation tables ``embed_store.gN`` and nowhere else:
documents, jobs, the change log, the cache and the rest have the key as jsonb, made by ``format('%s')`` and so by the
type's output function, never by a cast to json. Where Postgres runs code of such a type there, and why that is safe:

* ANALYZE, also by autovacuum, as the table's owner: ``typanalyze`` and, of ranges and multiranges, ``subtype_diff``,
  which any role may define. No statistics on key columns; a type whose code belongs to no superuser is refused. See
  ``test_key_statistics.py``, also for the list of columns that hold such values.
* Planning, as the role that asks: estimates of ``=`` run the operator on the most common values, those of range
  operators ``subtype_diff``. Without statistics there is no such value. Support functions of the planner and
  estimators are a superuser's. See ``test_key_statistics.py`` and ``test_key_operators.py``.
* Index builds, REINDEX, CLUSTER, inserts and merge joins: support functions and operators of the operator class. Only a
  superuser can make one; one whose functions belong to another role is refused. See ``test_key_operators.py``. An
  operator that is planted for the type is not looked up: names are qualified, and the path is pinned.
* INSERT and COPY: input and receive functions, and ``canonical`` of a range, which only C can have. A domain's CHECK
  runs there too: the column has the base type below it; a domain inside an array, a range or a composite is refused.
* Casts to json, to text and from text, found by type, which the type's owner can make: no statement of ours has one.
  See ``test_planted_types.py``, also for domains.
* CHECK constraints, generated columns, defaults, rules, triggers, policies, extended statistics and index expressions
  on a generation table: only its owner can make them, and ours name no user's function.
* VACUUM runs no code of types. Enums have none at all. Collations have none that a user can define.
"""

import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.roles import hash_model, people
from tests.fixtures.takeover import CREATE, DIFF, EVIL, SPAN, TAKE_OVER, assert_no_takeover, give

ROWS = {
    "alice.span": "int4range(i, i + 5)::text::alice.span",
    "alice.span[]": "ARRAY[int4range(i, i + 5)::text::alice.span]",
    "alice.spans": "alice.spans(int4range(i, i + 5)::text::alice.span)",
    "alice.named": "int4range(i, i + 5)::text::alice.span",
}
MAINTAIN = [
    "ANALYZE embed_store.g1, embed.document, embed.job",
    "VACUUM (ANALYZE, FULL) embed_store.g1, embed.document, embed.job",
    "VACUUM (FREEZE) embed_store.g1",
    "REINDEX TABLE embed_store.g1",
    "CLUSTER embed_store.g1 USING g1_pkey",
    "CREATE INDEX again ON embed_store.g1 (k1)",
    "SELECT count(*) FROM embed_store.g1 a JOIN embed_store.g1 b USING (k1) WHERE a.k1 > b.k1 OR a.k1 = b.k1",
    "SELECT count(*) FROM alice.docs_embedding a JOIN alice.docs_embedding b USING (id)",
    "SELECT embed_verify('docs', repair => true)",
]
STATISTICS = "SELECT attname FROM pg_stats WHERE schemaname = 'embed_store' AND attname ~ '^(k[0-9]+|chunk|embedding)$'"


@pytest.fixture
def alice(db, connect):
    people(db)
    hash_model(db)
    yield connect("alice")
    db.execute("ALTER ROLE alice NOSUPERUSER")


def table(alice, type_name):
    if type_name == "alice.named":
        alice.execute("CREATE DOMAIN alice.named AS alice.span")
    alice.execute(f"CREATE TABLE alice.docs (id {type_name} PRIMARY KEY, body text)")
    alice.execute(f"INSERT INTO alice.docs SELECT {ROWS[type_name]}, 'body ' || i FROM generate_series(1, 40) i")


@pytest.mark.slow
@pytest.mark.parametrize("type_name", ROWS)
def test_a_key_whose_type_runs_its_owners_code_is_refused(db, alice, type_name):
    alice.execute(EVIL + DIFF.format(body=TAKE_OVER) + SPAN)
    table(alice, type_name)
    for call in ("embed_create('docs', 'alice.docs', '{body}')", "embed_preview('alice.docs', '{body}')"):
        error = refused(alice, f"SELECT {call}", count_as=db)
        assert error.sqlstate == "0A000"
        assert 'key column "id"' in error.diag.message_primary
        assert "alice.diff" in error.diag.message_hint


@pytest.mark.few(2)
@pytest.mark.slow
@pytest.mark.parametrize("type_name", ROWS)
def test_no_code_of_a_keys_type_runs_in_a_generation_table(db, connect, alice, type_name):
    """A superuser's function is let in, and then given away: what stays is that nothing runs it."""
    db.execute(EVIL + DIFF.format(body=""))
    alice.execute(SPAN)
    table(alice, type_name)
    alice.execute(CREATE)
    db.execute("SELECT embed_drain()")
    give(db, alice)
    session = connect()
    for statement in MAINTAIN:
        session.execute(statement)
        alice.execute("UPDATE alice.docs SET body = body || '.'")
        session.execute("SELECT embed_drain()")
    assert_no_takeover(db)
    assert db.execute(STATISTICS).fetchall() == []


@pytest.mark.parametrize("relation", ["embed_store.g1", "embed_store.readable_1"])
def test_a_table_that_had_statistics_loses_them(db, connect, alice, relation):
    """As of an earlier version, or after ALTER TABLE by an administrator."""
    db.execute(EVIL + DIFF.format(body=""))
    alice.execute(SPAN)
    table(alice, "alice.span")
    alice.execute(CREATE)
    db.execute("SELECT embed_drain()")
    db.execute(f"ALTER TABLE {relation} ALTER k1 SET STATISTICS 100, ALTER chunk SET STATISTICS 100")
    db.execute(f"ANALYZE {relation}")
    assert db.execute(STATISTICS).fetchall() != []
    give(db, alice)
    db.execute("CALL embed_work(until_empty => true)")
    assert db.execute(STATISTICS).fetchall() == []
    session = connect()
    session.execute(f"ANALYZE {relation}")
    session.execute(f"EXPLAIN SELECT FROM {relation} WHERE k1 && '[3,5)' AND k1 < '[4,9)'")
    assert_no_takeover(db)


def test_a_type_that_becomes_its_owners_later_stops_the_pipeline(db, alice):
    """Noticed with the next DDL on the source, or after a restore."""
    db.execute(EVIL + DIFF.format(body=""))
    alice.execute(SPAN)
    table(alice, "alice.span")
    alice.execute(CREATE)
    give(db, alice)
    alice.execute("ALTER TABLE alice.docs ADD COLUMN more int")
    last_error = db.execute("SELECT last_error FROM embed_status").fetchone()[0]
    assert "alice.diff" in last_error
    alice.execute("INSERT INTO alice.docs VALUES ('[100,101)', 'writes go on')")


@pytest.mark.slow
def test_a_key_that_is_given_such_a_type_stops_the_pipeline(db, connect, alice):
    alice.execute(EVIL + DIFF.format(body=TAKE_OVER) + SPAN)
    alice.execute("CREATE TABLE alice.docs (id int4range PRIMARY KEY, body text)")
    alice.execute("INSERT INTO alice.docs SELECT int4range(i, i + 5), 'body ' || i FROM generate_series(1, 40) i")
    alice.execute(CREATE)
    db.execute("SELECT embed_drain()")
    alice.execute("ALTER TABLE alice.docs ALTER id TYPE alice.span USING id::text::alice.span")
    session = connect()
    session.execute("SELECT embed_drain()")
    session.execute("ANALYZE embed_store.g1")
    assert "primary key" in session.execute("SELECT last_error FROM embed_status").fetchone()[0]
    assert_no_takeover(db)


COMPARE = """
CREATE TYPE alice.mood AS ENUM ('sad', 'glad');
CREATE FUNCTION alice.compare(a alice.mood, b alice.mood) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$BEGIN PERFORM alice.spy(); RETURN enum_cmp(a, b); END$$;
"""
CLASS = """
CREATE OPERATOR CLASS alice.moods DEFAULT FOR TYPE alice.mood USING btree AS
    OPERATOR 1 < (anyenum, anyenum), OPERATOR 2 <= (anyenum, anyenum), OPERATOR 3 = (anyenum, anyenum),
    OPERATOR 4 >= (anyenum, anyenum), OPERATOR 5 > (anyenum, anyenum), FUNCTION 1 alice.compare(alice.mood, alice.mood)
"""


def test_an_operator_class_of_a_users_functions_is_refused(db, alice):
    """A superuser made it for alice's type; every insert into an index of ours would run her function."""
    alice.execute(EVIL + COMPARE)
    db.execute(CLASS)
    for type_name in ("alice.mood", "alice.mood[]"):
        alice.execute(f"CREATE TABLE alice.docs (id {type_name} PRIMARY KEY, body text)")
        error = refused(alice, CREATE, count_as=db)
        assert error.sqlstate == "0A000"
        assert "alice.compare" in error.diag.message_hint
        alice.execute("DROP TABLE alice.docs")
    assert_no_takeover(db)


@pytest.mark.slow
def test_a_function_of_an_operator_class_that_changes_hands_stops_the_pipeline(db, connect, alice):
    """Before another value is written: no DDL of the source tells of it."""
    alice.execute(EVIL + COMPARE)
    db.execute(
        "CREATE OR REPLACE FUNCTION alice.compare(a alice.mood, b alice.mood) RETURNS int IMMUTABLE"
        " LANGUAGE internal AS 'enum_cmp'; ALTER FUNCTION alice.compare OWNER TO CURRENT_USER"
    )
    operators = []
    for number, (name, function) in enumerate({"<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">": "gt"}.items(), 1):
        types = "(alice.mood, alice.mood)"
        db.execute(
            f"CREATE FUNCTION alice.{function}{types} RETURNS bool IMMUTABLE LANGUAGE internal AS 'enum_{function}';"
            f"CREATE OPERATOR alice.{name} (leftarg = alice.mood, rightarg = alice.mood, function = alice.{function})"
        )
        operators.append(f"OPERATOR {number} alice.{name} {types}")
    db.execute(
        f"CREATE OPERATOR CLASS alice.moods DEFAULT FOR TYPE alice.mood USING btree AS {', '.join(operators)},"
        " FUNCTION 1 alice.compare(alice.mood, alice.mood)"
    )
    alice.execute("CREATE TABLE alice.docs (id alice.mood PRIMARY KEY, body text)")
    alice.execute("INSERT INTO alice.docs VALUES ('sad', 'one')")
    alice.execute(CREATE)
    assert db.execute("SELECT embed_drain()").fetchone() == (1,)
    db.execute("ALTER FUNCTION alice.compare OWNER TO alice")
    alice.execute(COMPARE.partition(";")[2].replace("CREATE", "CREATE OR REPLACE"))
    alice.execute("INSERT INTO alice.docs VALUES ('glad', 'two')")
    alice.execute("UPDATE alice.docs SET body = 'three'")
    connect().execute("SELECT embed_drain()")
    assert "alice.compare" in db.execute("SELECT last_error FROM embed_status").fetchone()[0]
    assert_no_takeover(db)


@pytest.mark.slow
def test_a_range_without_code_of_its_own_is_a_key(db, alice):
    """By the server's functions, or none: as the documentation of Postgres makes ranges."""
    alice.execute("CREATE TYPE alice.floats AS RANGE (subtype = float8, subtype_diff = float8mi)")
    alice.execute("CREATE TYPE alice.times AS RANGE (subtype = time)")
    alice.execute("CREATE TABLE alice.docs (id alice.floats, at alice.times[], body text, PRIMARY KEY (id, at))")
    alice.execute("INSERT INTO alice.docs VALUES ('[0.5,1)', '{\"[10:00,11:00)\"}', 'body')")
    alice.execute(CREATE)
    assert db.execute("SELECT embed_drain()").fetchone() == (1,)
    assert db.execute("SELECT is_stale FROM alice.docs_embedding").fetchall() == [(False,)]
