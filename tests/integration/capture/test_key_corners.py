"""Keys at the edges: equal but not the same, as long as an index takes, as wide as an index takes."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import WRITER, assert_fresh, become, drain, texts_in_view


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


_LONG_TEXT = "string_agg(chr(19968 + abs(hashint4(i)) % 20000) || chr(19968 + abs(hashint4(-i)) % 20000), '')"


def test_a_key_as_long_as_an_index_takes(db, model):
    db.execute("CREATE TABLE t (body text, k text PRIMARY KEY)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute(f"INSERT INTO t SELECT 'long', {_LONG_TEXT} FROM generate_series(1, 400) i")
    db.execute(f"INSERT INTO t SELECT 'short', {_LONG_TEXT} FROM generate_series(1, 2) i")
    assert_fresh(db, "t", 2)
    assert texts_in_view(db, "t_embedding") == ["long", "short"]
    db.execute("UPDATE t SET body = body || ' edited'")
    assert_fresh(db, "t", 2)
    db.execute("DELETE FROM t")
    assert_fresh(db, "t", 0)


@pytest.mark.parametrize("backfill", [True, False])
def test_a_key_that_is_too_long_as_json_stops_nobody(db, model, backfill):
    """Bytes are twice as long in a JSON key, so a key that the source's index takes may not fit into ours."""
    db.execute("CREATE TABLE t (body text, k bytea PRIMARY KEY)")
    create = "SELECT embed_create('t', 't', columns => '{body}', model => 'loop')"
    rows = "INSERT INTO t SELECT 'long', decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 160) i"
    for statement in (rows, create) if backfill else (create, rows):
        db.execute(statement)
    db.execute("INSERT INTO t VALUES ('short', '\\x00')")
    for _ in range(2):
        db.execute("SELECT embed_drain()")
    db.execute("CALL embed_work(until_empty => true)")
    assert texts_in_view(db, "t_embedding") == ["short"]
    assert db.execute("SELECT pending, last_error FROM embed_status").fetchone() == (
        1,
        "1 rows have a key longer than 2600 bytes and cannot be queued",
    )


def test_a_key_of_32_columns_works(db, model):
    names = [f"c{i}" for i in range(32)]
    key = ", ".join(reversed(names))
    db.execute(f"CREATE TABLE t (body text, {' int, '.join(names)} int, PRIMARY KEY ({key}))")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute(f"INSERT INTO t SELECT 'row', {', '.join('i' for _ in names)} FROM generate_series(1, 3) i")
    assert_fresh(db, "t", 3)
    db.execute("UPDATE t SET c31 = -c31")
    assert_fresh(db, "t", 3)


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_key_that_is_a_domain_over_an_enum_works(db, model, provider, partitioned):
    """Postgres finds no operator for it by name, so ours are applied to the base type."""
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'glad', 'mad'); CREATE DOMAIN low AS mood; CREATE DOMAIN lower AS low")
    db.execute(
        f"CREATE TABLE t (body text, n int, k lower, PRIMARY KEY (k, n)) {'PARTITION BY LIST (n)' * partitioned}"
    )
    if partitioned:
        db.execute("CREATE TABLE t_1 PARTITION OF t DEFAULT")
    db.execute("INSERT INTO t VALUES ('one', 1, 'sad'), ('two', 2, 'sad'), ('three', 2, 'glad')")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    assert_fresh(db, "t", 3)
    provider.reset()
    db.execute("UPDATE t SET body = 'edited' WHERE n = 1; UPDATE t SET k = 'mad' WHERE k::mood = 'glad'")
    db.execute("DELETE FROM t WHERE body = 'two'")
    db.execute("CALL embed_work(until_empty => true)")
    assert_fresh(db, "t", 2)
    assert db.execute("SELECT key FROM t_embedding ORDER BY 1").fetchall() == [(["mad", 2],), (["sad", 1],)]
    assert provider.sent == {"edited": 1}
    assert db.execute("SELECT embed_touch('t', '[\"mad\", 2]')").fetchone() == (1,)
    db.execute("SELECT embed_backfill('t')")
    assert_fresh(db, "t", 2)


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
