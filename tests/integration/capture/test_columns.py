"""Watched columns of every kind, and what counts as a change of them."""

import pytest

from tests.fixtures.pipelines.freshness import (
    READER,
    WORKER,
    WRITER,
    assert_fresh,
    become,
    drain,
    status,
    texts_in_view,
    verify,
)

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def create(db, model):
    """Make a pipeline ``t`` over table ``t`` and its columns."""

    def create_pipeline(*columns, **options):
        arguments = "".join(f", {name} => {value}" for name, value in options.items())
        db.execute(f"SELECT embed_create('t', 't', columns => %s, model => 'loop'{arguments})", (list(columns),))

    return create_pipeline


def test_a_before_trigger_that_rewrites_the_text_is_seen(db, create, provider):
    """The statement names another column only: UPDATE OF would miss it."""
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text, n int)")
    db.execute(
        "CREATE FUNCTION rewrite() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.body = 'written by a trigger ' || NEW.n; RETURN NEW; END $$"
    )
    db.execute("CREATE TRIGGER rewrite BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION rewrite()")
    create("body")
    db.execute("INSERT INTO t VALUES (1, 'first', 0)")
    assert_fresh(db, "t", 1)
    db.execute("UPDATE t SET n = 5")
    assert_fresh(db, "t", 1)
    assert texts_in_view(db, "t_embedding") == ["written by a trigger 5"]
    assert provider.sent == {"first": 1, "written by a trigger 5": 1}


def test_a_before_trigger_that_undoes_the_change_costs_nothing(db, create, provider):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$")
    create("body")
    db.execute("INSERT INTO t VALUES (1, 'first')")
    db.execute("CREATE TRIGGER undo BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION undo()")
    drain(db)
    db.execute("UPDATE t SET body = 'changed'")
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)
    assert_fresh(db, "t", 1)
    assert provider.sent == {"first": 1}


def test_a_generated_column_is_watched(db, create, provider):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, a text, n int, body text GENERATED ALWAYS AS (upper(a)) STORED)")
    create("body")
    db.execute("INSERT INTO t (id, a) VALUES (1, 'first')")
    assert_fresh(db, "t", 1)
    db.execute("UPDATE t SET a = 'First'")
    db.execute("UPDATE t SET n = 1")
    assert_fresh(db, "t", 1)
    db.execute("UPDATE t SET a = 'second'")
    assert_fresh(db, "t", 1)
    assert texts_in_view(db, "t_embedding") == ["SECOND"]
    assert provider.sent == {"FIRST": 1, "SECOND": 1}


def test_a_generated_column_that_becomes_an_ordinary_one_is_watched_on(db, create, connect, provider):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, a text, body text GENERATED ALWAYS AS (upper(a)) STORED)")
    create("body")
    session = connect()
    session.execute("INSERT INTO t (id, a) VALUES (1, 'first'), (2, 'second')")
    assert_fresh(db, "t", 2)
    db.execute("ALTER TABLE t ALTER body DROP EXPRESSION")
    session.execute("UPDATE t SET a = 'no matter'")
    session.execute("UPDATE t SET body = 'by hand' WHERE id = 2")
    assert_fresh(db, "t", 2)
    db.execute("ALTER TABLE t DROP body, ADD body2 text GENERATED ALWAYS AS (lower(a)) STORED")
    session.execute("UPDATE t SET a = 'Whatever'")
    assert "embed_drop()" in status(db, "t").last_error
    assert provider.sent == {"FIRST": 1, "SECOND": 1, "by hand": 1}


def test_columns_that_were_dropped_shift_nothing(db, create, provider):
    """Attribute numbers have gaps before the key, between the watched columns and behind them."""
    db.execute("CREATE TABLE t (g1 int, title text, g2 text, id int, g3 text, body text, g4 int, PRIMARY KEY (id))")
    db.execute("ALTER TABLE t DROP g1, DROP g2, DROP g3, DROP g4")
    create("title", "body")
    db.execute("INSERT INTO t (id, title, body) VALUES (1, 'T', 'B')")
    db.execute("ALTER TABLE t ADD g5 text DEFAULT 'new', DROP title")
    db.execute("SELECT embed_drop('t')")
    create("body", "g5")
    db.execute("INSERT INTO t (id, body) VALUES (2, 'C')")
    assert_fresh(db, "t", 2)
    db.execute("UPDATE t SET g5 = 'newer' WHERE id = 2")
    db.execute("UPDATE t SET id = 3 WHERE id = 1")
    assert_fresh(db, "t", 2)
    assert texts_in_view(db, "t_embedding") == ["B\n\nnew", "C\n\nnewer"]
    assert provider.sent == {"B\n\nnew": 1, "C\n\nnew": 1, "C\n\nnewer": 1}


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("type_", "first", "second", "texts"),
    [
        ("json", '{"a":1}', '{"a": 1}', ['{"a":1}', '{"a": 1}']),
        ("json", '{"a":1,"a":2}', '{"a":2}', ['{"a":1,"a":2}', '{"a":2}']),
        ("jsonb", '{"a":1}', '{ "a" : 1 }', ['{"a": 1}']),
        ("jsonb", '{"a":1.0}', '{"a":1.00}', ['{"a": 1.0}', '{"a": 1.00}']),
        ("xml", "<a/>", "<a />", ["<a/>", "<a />"]),
        ("citext", "Case", "CASE", ["Case", "CASE"]),
        ("hstore", "a=>1", '"a"=>"2"', ['"a"=>"1"', '"a"=>"2"']),
        ("numeric", "1.5", "1.50", ["1.5", "1.50"]),
        ("interval", "24 hours", "1 day", ["24:00:00", "1 day"]),
        ("text[]", "{a,b}", "{a,NULL}", ["{a,b}", "{a,NULL}"]),
        ("bytea", r"\x00", r"\x01", [r"\x00", r"\x01"]),
        ("char(3)", "a", "a ", ["a  "]),
        ("tsvector", "a b", "b a", ["'a' 'b'"]),
    ],
)
def test_a_change_is_a_change_of_bytes(db, create, provider, type_, first, second, texts):
    """Types without equality (json, xml) and with a lenient one (citext, numeric): what is written is sent."""
    if type_ in {"citext", "hstore"}:
        db.execute(f"CREATE EXTENSION {type_}")
    db.execute(f"CREATE TABLE t (id int PRIMARY KEY, body {type_})")
    create("body")
    for value in (first, second):
        db.execute("INSERT INTO t VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body", (value,))
        assert_fresh(db, "t", 1)
    assert provider.sent == dict.fromkeys(texts, 1)
    assert texts_in_view(db, "t_embedding") == texts[-1:]


TYPES = {
    "timestamptz": "'2024-02-29 23:59:59+05:45'",
    "timestamptz[]": "'{2024-02-29 23:59:59+05:45}'",
    "tstzrange": "'[2024-02-29 23:59:59+05:45,)'",
    "tstzmultirange": "'{[2024-02-29 23:59:59+05:45,)}'",
    "date": "'2024-02-03'",
    "timetz": "'10:00+02'",
    "interval": "'1 year 2 mons -3 days 04:05:06.7'",
    "interval[]": "'{1 day 3 hours}'",
    "float4": "'0.1'",
    "float8": "'0.30000000000000004'",
    "float8[]": "'{0.30000000000000004}'",
    "bytea": r"'\x00ff'",
    "bytea[]": r"ARRAY['\x00ff'::bytea]",
    "money": "'1234.50'",
    "point": "'(0.30000000000000004,0.1)'",
    "box": "'(0.30000000000000004,0.1),(2,2)'",
    "path": "'[(0.30000000000000004,0.1),(2,2)]'",
    "circle": "'<(0.30000000000000004,0.1),2>'",
    "regclass": "'s.t'",
    "regproc": "'s.f'",
    "s.moments": "'{2024-02-29 23:59:59+05:45}'",
    "s.span": "'[2024-02-29 23:59:59+05:45,)'",
    "s.pair": "'(2024-02-29 23:59:59+05:45,0.30000000000000004)'",
    "s.pair[]": """'{"(2024-02-29 23:59:59+05:45,0.30000000000000004)"}'""",
    "s.nest": """'("(2024-02-29 23:59:59+05:45,0.30000000000000004)",1 day)'""",
    "xml": "'<a/>'",
    "json": """'{"a":1}'""",
}


def test_is_stale_does_not_depend_on_the_readers_settings(db, connect):
    """The reader's session formats the values differently from the worker's."""
    db.execute("CREATE SCHEMA s")
    db.execute("CREATE DOMAIN s.moment AS timestamptz; CREATE DOMAIN s.moments AS s.moment[]")
    db.execute("CREATE TYPE s.span AS RANGE (subtype = timestamptz); CREATE TYPE s.pair AS (t timestamptz, f float8)")
    db.execute("CREATE TYPE s.nest AS (p s.pair, i interval)")
    db.execute("CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    db.execute("CREATE TABLE s.t (id int)")
    db.execute("SELECT embed_model_add('h', 'hash', 8)")
    columns = {type_: f"c{i}" for i, type_ in enumerate(TYPES)}
    writer = become(connect(), WRITER)
    for type_, name in columns.items():
        db.execute(f"CREATE TABLE s.{name} (id int PRIMARY KEY, body {type_})")
        db.execute("SELECT embed_create(%s, %s, columns => '{body}', model => 'h')", (name, f"s.{name}"))
        writer.execute(f"INSERT INTO s.{name} VALUES (1, {TYPES[type_]})")
    assert drain(become(db, WORKER)) == len(TYPES)
    wrong: dict[str, set[str]] = {}
    for who, settings in {
        "writer": WRITER,
        "worker": WORKER,
        "reader": READER,
        "path": {"search_path": "s, public"},
    }.items():
        become(db, settings | {"client_encoding": "UTF8"})
        for type_, name in columns.items():
            rows = db.execute(f"SELECT is_stale FROM s.{name}_embedding").fetchall()
            if rows != [(False,)]:
                wrong.setdefault(type_, set()).add(who)
    assert not wrong
    become(db, READER)
    for type_, name in columns.items():
        assert verify(db, name)["fresh"] == 1, type_
        db.execute(f"UPDATE s.{name} SET body = NULL")
        assert db.execute(f"SELECT is_stale FROM s.{name}_embedding").fetchall() == [(True,)], type_


def test_two_pipelines_on_one_table_watch_their_own_columns(db, docs, model, provider):
    db.execute("SELECT embed_model_add('h', 'hash', 3)")
    db.execute("SELECT embed_create('bodies', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_create('titles', 'docs', template => 'T: $title', model => 'h', view_name => 'v')")
    assert_fresh(db, "bodies", 10)
    assert_fresh(db, "titles", 10)
    provider.reset()
    db.execute("UPDATE docs SET title = 'other' WHERE id = 1")
    db.execute("UPDATE docs SET body = 'other' WHERE id = 2")
    db.execute("DELETE FROM docs WHERE id = 3")
    assert [row[0] for row in db.execute("SELECT is_stale FROM v WHERE id IN (1, 2) ORDER BY id")] == [True, False]
    assert_fresh(db, "bodies", 9)
    assert_fresh(db, "titles", 9)
    assert provider.sent == {"other": 1}
    sizes = db.execute(
        "SELECT DISTINCT vector_dims(v.embedding), vector_dims(b.embedding) FROM v JOIN bodies_embedding b USING (id)"
    )
    assert sizes.fetchall() == [(3, 8)]
    db.execute("SELECT embed_drop('bodies')")
    db.execute("UPDATE docs SET title = 'more', body = 'more'")
    assert_fresh(db, "titles", 9)


def test_the_same_text_in_two_pipelines_is_sent_once(db, docs, model, provider):
    for name in ("one", "two"):
        db.execute("SELECT embed_create(%s, 'docs', columns => '{body}', model => 'loop')", (name,))
    assert_fresh(db, "one", 10)
    assert_fresh(db, "two", 10)
    assert set(provider.sent.values()) == {1}
    assert len(provider.sent) == 10
