"""Keys at the edges: equal but not the same, as long as an index takes, as wide as an index takes."""

import psycopg
import pytest
from freshness import WRITER, assert_fresh, become, drain, texts_in_view


@pytest.mark.parametrize(
    ("type_", "old", "new"),
    [
        ("citext", "'Case'", "'CASE'"),
        ("interval", "'24 hours'", "'1 day'"),
        ("numeric", "1.50", "1.5"),
        ("float8", "0", "'-0'"),
        ("jsonb", "'1.0'", "'1.00'"),
    ],
)
def test_a_key_that_changes_into_an_equal_one_keeps_one_fresh_document(connect, db, model, provider, type_, old, new):
    if type_ == "citext":
        db.execute("CREATE EXTENSION citext SCHEMA public")
    db.execute(f"CREATE TABLE t (body text, k {type_} PRIMARY KEY)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute(f"INSERT INTO t VALUES ('text', {old})")
    drain(db)
    provider.reset()
    writer = become(connect(), WRITER)
    writer.execute(f"UPDATE t SET k = {new}")
    drain(db)
    assert_fresh(db, "t", 1)
    assert texts_in_view(db, "t_embedding") == ["text"]
    writer.execute("UPDATE t SET body = 'edited'")
    assert_fresh(db, "t", 1)
    assert texts_in_view(db, "t_embedding") == ["edited"]
    assert provider.sent == {"edited": 1}
    writer.execute("DELETE FROM t")
    assert_fresh(db, "t", 0)


@pytest.mark.parametrize(
    ("type_", "expression"),
    [
        ("bytea", "decode(string_agg(md5(i::text), ''), 'hex')"),
        ("int[]", "array_agg(hashint4(i))"),
        ("text", "string_agg(chr(19968 + abs(hashint4(i)) % 20000) || chr(19968 + abs(hashint4(-i)) % 20000), '')"),
    ],
)
def test_a_key_as_long_as_an_index_takes_stops_nobody(db, model, type_, expression):
    """A key that the source's own index takes may be twice as long as JSON; no index of ours may choke on it."""
    db.execute(f"CREATE TABLE t (body text, k {type_} PRIMARY KEY)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    numbers = {"bytea": 160, "int[]": 600, "text": 440}[type_]
    db.execute(f"INSERT INTO t SELECT 'long', {expression} FROM generate_series(1, {numbers}) i")
    db.execute(f"INSERT INTO t SELECT 'short', {expression} FROM generate_series(1, 2) i")
    assert_fresh(db, "t", 2)
    assert texts_in_view(db, "t_embedding") == ["long", "short"]
    db.execute("UPDATE t SET body = body || ' edited'")
    assert_fresh(db, "t", 2)
    db.execute("DELETE FROM t")
    assert_fresh(db, "t", 0)


def test_a_key_of_32_columns_works(db, model):
    names = [f"c{i}" for i in range(32)]
    key = ", ".join(reversed(names))
    db.execute(f"CREATE TABLE t (body text, {' int, '.join(names)} int, PRIMARY KEY ({key}))")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute(f"INSERT INTO t SELECT 'row', {', '.join('i' for _ in names)} FROM generate_series(1, 3) i")
    assert_fresh(db, "t", 3)
    db.execute("UPDATE t SET c31 = -c31")
    assert_fresh(db, "t", 3)


@pytest.mark.parametrize("type_", ["pair", "pair[]"])
def test_a_key_of_a_composite_type_is_refused(db, type_):
    """Its parts may become domains at any time, whose checks would run with the worker's rights."""
    db.execute("CREATE TYPE pair AS (a int, b text)")
    db.execute(f"CREATE TABLE t (body text, k {type_} PRIMARY KEY)")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.execute("SELECT embed_create('t', 't', columns => '{body}')")
    assert '"k"' in refused.value.diag.message_primary
    assert refused.value.diag.message_hint
    assert db.execute("SELECT count(*) FROM embed_pipelines").fetchone() == (0,)
