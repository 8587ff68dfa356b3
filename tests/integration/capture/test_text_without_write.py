"""Text that changes without a write to the row: a renamed object, role or label, an attribute, an expression.

The kind: what is embedded is the text of a column, and for some types the catalog has a part in that text. Whatever
happens to the catalog, ``is_stale`` and ``embed_verify`` agree, and both say stale exactly when the text is another one
than was embedded. Where Postgres tells of the command (ALTER TYPE, a rewrite of the table) all rows are checked; of a
renamed table or role it does not tell in a way that leads to the rows. Types whose text cannot be compared exactly are
refused: composites and ranges of object names, and generated columns that are not stored, which triggers do not see.
"""

import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.freshness import assert_fresh, become, drain, texts_in_view, verify

pytestmark = pytest.mark.shared_database

BEFORE = """
CREATE SCHEMA s; CREATE SCHEMA n; CREATE SCHEMA z;
CREATE TABLE s.t (id int); CREATE TABLE s.t2 (id int); CREATE TABLE s.t3 (id int);
CREATE FUNCTION s.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION s.h(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR s.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE OPERATOR s.### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE TYPE s.mood AS ENUM ('sad', 'glad');
CREATE TEXT SEARCH CONFIGURATION s.words (COPY = english);
CREATE TEXT SEARCH DICTIONARY s.dict (TEMPLATE = simple);
CREATE COLLATION s.c FROM "C";
CREATE DOMAIN s.named AS regclass;
CREATE TYPE s.pair AS (a text, b int);
CREATE ROLE "a role"; CREATE ROLE granted;
"""
# type: value, what is renamed, its text before and after
NAMES = {
    "regclass": ("'s.t'", "TABLE s.t RENAME TO u", "s.t", "s.u"),
    "s.named": ("'s.t2'", "TABLE s.t2 RENAME TO u2", "s.t2", "s.u2"),
    "regclass[]": ("'{s.t3,NULL,pg_class}'", "TABLE s.t3 RENAME TO u3", "{s.t3,NULL,pg_class}", "{s.u3,NULL,pg_class}"),
    "regtype": ("'s.mood'", "TYPE s.mood RENAME TO feeling", "s.mood", "s.feeling"),
    "regproc": ("'s.f'", "FUNCTION s.f(int) RENAME TO g", "s.f", "s.g"),
    "regprocedure": ("'s.h(int)'", "FUNCTION s.h(int) RENAME TO i", "s.h(integer)", "s.i(integer)"),
    "regoper": ("'s.@@@'", "OPERATOR s.@@@ (int, int) SET SCHEMA z", "s.@@@", "z.@@@"),
    "regoperator": (
        "'s.###(int,int)'",
        "OPERATOR s.### (int, int) SET SCHEMA z",
        "s.###(integer,integer)",
        "z.###(integer,integer)",
    ),
    "regrole": ("'\"a role\"'", 'ROLE "a role" RENAME TO another', '"a role"', "another"),
    "regnamespace": ("'n'", "SCHEMA n RENAME TO m", "n", "m"),
    "regconfig": ("'s.words'", "TEXT SEARCH CONFIGURATION s.words RENAME TO w", "s.words", "s.w"),
    "regdictionary": ("'s.dict'", "TEXT SEARCH DICTIONARY s.dict RENAME TO d", "s.dict", "s.d"),
    "regcollation": ("'s.c'", "COLLATION s.c RENAME TO k", "s.c", "s.k"),
    "aclitem": ("'granted=r/postgres'", "ROLE granted RENAME TO later", "granted=r/postgres", "later=r/postgres"),
}


def is_stale(db, path="s, public", name="docs"):
    become(db, {"search_path": path})
    found = db.execute(f"SELECT is_stale FROM public.{name}_embedding").fetchall()
    db.execute("RESET ALL")
    return found


@pytest.fixture
def renaming(db):
    """Roles are the cluster's: gone before and after."""

    def drop():
        for role in ("a role", "granted", "another", "later"):
            db.execute(f'DROP ROLE IF EXISTS "{role}"')

    drop()
    db.execute(BEFORE)
    db.execute("SELECT embed_model_add('h', 'hash', 8)")
    yield
    drop()


@pytest.mark.slow
def test_a_renamed_object_makes_its_name_stale(db, renaming):
    """With any search_path; also names in the path, which lose their schema in the text."""
    tables = {type_: f"t{i}" for i, type_ in enumerate(NAMES)}
    for type_, name in tables.items():
        db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, body {type_})")
        db.execute(f"INSERT INTO {name} VALUES (1, {NAMES[type_][0]})")
        db.execute(f"SELECT embed_create('{name}', '{name}', columns => '{{body}}', model => 'h')")
    drain(db)
    for type_, name in tables.items():
        _, rename, before, after = NAMES[type_]
        assert texts_in_view(db, f"{name}_embedding") == [before]
        for path in ("s, public", "public", "pg_catalog"):
            assert is_stale(db, path, name) == [(False,)], (type_, path)
        db.execute(f"ALTER {rename}")
        for path in ("s, z, public", "pg_catalog"):
            assert is_stale(db, path, name) == [(True,)], (type_, path)
        assert verify(db, name, repair=True)["stale"] == 1
        drain(db, name)
        assert texts_in_view(db, f"{name}_embedding") == [after]
        assert is_stale(db, name=name) == [(False,)]
        assert verify(db, name)["fresh"] == 1


@pytest.mark.slow
def test_a_dropped_object_becomes_a_number(db, renaming):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body regclass)")
    db.execute("INSERT INTO docs VALUES (1, 's.t'), (2, 0), (3, 4000000000)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h')")
    drain(db)
    db.execute("DROP TABLE s.t")
    assert sorted(is_stale(db)) == [(False,), (False,), (True,)]
    assert verify(db, "docs")["stale"] == 1


def test_names_inside_other_types_and_as_keys_are_refused(db, renaming):
    """A row would be another one after a rename of what its key names."""
    db.execute("CREATE TYPE s.holder AS (a text, b regclass)")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, a s.holder, b s.holder[], c s.named[], other text)")
    for call in ("columns => '{a}'", "template => '$other: $b'", "columns => '{other,c}'"):
        assert refused(db, f"SELECT embed_create('docs', 'docs', {call})").sqlstate == "0A000"
    for number, type_ in enumerate(("regclass", "regrole", "s.named", "regtype[]")):
        db.execute(f"CREATE TABLE keyed{number} (id {type_} PRIMARY KEY, body text)")
        assert refused(db, f"SELECT embed_create('docs', 'keyed{number}', '{{body}}')").sqlstate == "0A000"


@pytest.mark.slow
def test_a_composite_that_gets_a_name_later_stops_the_pipeline(db, renaming):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body s.pair)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h')")
    db.execute("ALTER TYPE s.pair ADD ATTRIBUTE c regclass")
    assert 'column "body"' in db.execute("SELECT last_error FROM embed_status").fetchone()[0]
    db.execute("INSERT INTO docs VALUES (1, '(a,1,pg_class)')")
    db.execute("ALTER TYPE s.pair DROP ATTRIBUTE c")
    drain(db)
    assert_fresh(db, "docs", 1)


RELABEL = "ALTER TYPE s.mood RENAME VALUE 'sad' TO 'blue'"
ALTERED = {
    "label": ("s.mood", "'sad'", RELABEL, "blue"),
    "label in an array": ("s.mood[]", "'{sad}'", RELABEL, "{blue}"),
    "label in a composite": ("s.felt", "'(sad)'", RELABEL, "(blue)"),
    "label in a domain of a range": ("s.stretch", "'[sad,glad]'", RELABEL, "[blue,glad]"),
    "new attribute": ("s.pair", "'(a,1)'", "ALTER TYPE s.pair ADD ATTRIBUTE c int", "(a,1,)"),
    "dropped attribute": ("s.pair[]", "'{\"(a,1,2)\"}'", "ALTER TYPE s.pair DROP ATTRIBUTE b", '{"(a,2)"}'),
    "row type of a table": ("s.t", "'(1)'", "ALTER TABLE s.t ADD COLUMN more text", "(1,)"),
}


@pytest.mark.slow
def test_alter_type_queues_a_check_of_what_it_changes(db, renaming):
    """Of other pipelines no row is looked at."""
    db.execute("CREATE TYPE s.felt AS (m s.mood); CREATE TYPE s.moods AS RANGE (subtype = s.mood)")
    db.execute("CREATE DOMAIN s.stretch AS s.moods")
    db.execute("CREATE TABLE others (id int PRIMARY KEY, body text, unwatched s.mood[], p s.pair)")
    db.execute("SELECT embed_create('others', 'others', columns => '{body}', model => 'h')")
    queued = "SELECT DISTINCT p.name, c.scope FROM embed.change_log c JOIN embed.pipeline p ON p.id = c.pipeline"
    for name, (type_, value, statement, after) in ALTERED.items():
        db.execute(f"CREATE TABLE docs (id int PRIMARY KEY, body {type_}); INSERT INTO docs VALUES (1, {value})")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h')")
        drain(db)
        for harmless in ("ADD VALUE 'cross'", "RENAME TO feeling", "RENAME TO mood", "SET SCHEMA z", "SET SCHEMA s"):
            now = {"RENAME TO mood": "s.feeling", "SET SCHEMA s": "z.mood"}.get(harmless, "s.mood")
            db.execute(f"ALTER TYPE {now} {harmless.replace('cross', 'cross ' + name)}")
        assert db.execute(queued).fetchall() == [], "no text is another one"
        db.execute(statement)
        assert is_stale(db) == [(True,)], name
        assert db.execute(queued).fetchall() == [("docs", "source")], name
        drain(db)
        assert texts_in_view(db, "docs_embedding") == [after]
        assert_fresh(db, "docs", 1)
        db.execute("SELECT embed_drop('docs'); DROP TABLE docs")
        if statement == RELABEL:
            db.execute("ALTER TYPE s.mood RENAME VALUE 'blue' TO 'sad'")


@pytest.mark.slow
def test_a_renamed_label_of_a_key_is_followed(db, renaming):
    db.execute("CREATE TABLE docs (id s.mood PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h')")
    db.execute("INSERT INTO docs VALUES ('sad', 'one'), ('glad', 'two')")
    drain(db)
    db.execute("ALTER TYPE s.mood RENAME VALUE 'sad' TO 'blue'")
    drain(db)
    assert_fresh(db, "docs", 2)
    assert sorted(db.execute("SELECT key FROM docs_embedding").fetchall()) == [(["blue"],), (["glad"],)]


@pytest.mark.slow
def test_a_rewrite_for_an_expression_is_followed(db, renaming):
    """SET EXPRESSION (PostgreSQL 17) rewrites for a default; here a new column is the reason. No row trigger fires."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, a text, body text GENERATED ALWAYS AS (upper(a)) STORED)")
    db.execute("CREATE TABLE plain (id int PRIMARY KEY, body text)")
    for table in ("docs", "plain"):
        db.execute(f"SELECT embed_create('{table}', '{table}', columns => '{{body}}', model => 'h')")
    drain(db)
    for table in ("docs", "plain"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN chance float8 DEFAULT random()")
    queued = "SELECT p.name, c.scope FROM embed.change_log c JOIN embed.pipeline p ON p.id = c.pipeline"
    assert db.execute(queued).fetchall() == [("docs", "source")]


VIRTUAL = "UPDATE pg_attribute SET attgenerated = 'v' WHERE attrelid = 'docs'::regclass AND attname = 'body'"


def test_a_generated_column_that_is_not_stored_is_refused(db, renaming):
    """PostgreSQL 18 has them, and triggers see NULL in them; here the catalog is made to say so."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, a text, live bool, body text)")
    db.execute(VIRTUAL)
    for call in ("columns => '{body}'", "template => '$a: $body'", "columns => '{a}', only_if => 'body'"):
        error = refused(db, f"SELECT embed_create('docs', 'docs', {call})")
        assert error.sqlstate in {"0A000", "42804"}
    assert "STORED" in refused(db, "SELECT embed_create('docs', 'docs', columns => '{body}')").diag.message_hint
