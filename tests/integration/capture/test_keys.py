"""Keys of every type, written and read under settings that print them differently, and keys at the edges.

Edges: equal but not the same, as long as an index takes, as wide as an index takes.
"""

from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.freshness import (
    READER,
    WORKER,
    WRITER,
    Connection,
    assert_fresh,
    become,
    drain,
    texts_in_view,
)
from tests.fixtures.pipelines.key_types import KINDS, Kind
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.server.template import janitor

pytestmark = pytest.mark.shared_database


@pytest.fixture(scope="module")
def home(cluster: Cluster, template: NoopExecutor) -> Iterator[tuple[Connection, Connection, LoopbackProvider]]:
    """One database for all kinds: a session that asks and works, one that writes, and the provider."""
    with janitor(cluster, "kinds", template.template_dbname), LoopbackProvider() as provider:
        dsn = cluster.dsn("kinds")
        with psycopg.connect(dsn, autocommit=True) as db, psycopg.connect(dsn, autocommit=True) as writer:
            provider.register(db)
            yield db, writer, provider


class Table:
    """Table and pipeline of one kind; the key's columns come last and in the other order than in the key."""

    def __init__(self, name: str, kind: Kind, db: Connection, writer: Connection) -> None:
        self.name, self.kind = name, kind
        columns = [f"k{i}" for i in range(1, len(kind.types) + 1)]
        self.key = ", ".join(columns)
        for session in (db, writer):
            session.execute("RESET ALL")
            session.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
            session.execute("SELECT set_config('search_path', quote_ident(%s) || ', public', false)", (name,))
        if kind.before:
            db.execute(kind.before)
        typed = ", ".join(f"{c} {t}" for c, t in reversed(list(zip(columns, kind.types, strict=True))))
        db.execute(f"CREATE TABLE t (body text, n int, {typed}, PRIMARY KEY ({self.key}))")

    def at(self, key: str) -> str:
        """A condition that finds one row, and an assignment that moves one."""
        return f"{self.key} = {key}" if len(self.kind.types) == 1 else f"({self.key}) = ({key})"


@pytest.mark.few(4)
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_key_is_captured_and_healed(home, name):
    db, writer, provider = home
    table = Table(name, KINDS[name], db, writer)
    db.execute("SELECT embed_create(%s, 't', columns => '{body}', model => 'loop', view_name => 'v')", (name,))
    edited, moved, new, deleted = KINDS[name].keys
    become(writer, WRITER)
    for number, key in enumerate((edited, moved, deleted)):
        writer.execute(f"INSERT INTO t ({table.key}, body) VALUES ({key}, '{name} {number}')")
    assert drain(become(db, WORKER), name) == 3
    assert texts_in_view(become(db, READER), "v") == [f"{name} 0", f"{name} 1", f"{name} 2"]

    provider.reset()
    writer.execute(f"UPDATE t SET body = '{name} edited' WHERE {table.at(edited)}")
    writer.execute(f"UPDATE t SET {table.at(new)} WHERE {table.at(moved)}")
    writer.execute(f"DELETE FROM t WHERE {table.at(deleted)}")
    drain(become(db, WORKER), name)
    assert texts_in_view(become(db, READER), "v") == [f"{name} 1", f"{name} edited"]
    assert_fresh(db, name, 2)
    joined = db.execute(f"SELECT t.body, v.chunk FROM t LEFT JOIN v USING ({table.key})").fetchall()
    assert sorted(joined) == [(f"{name} 1", f"{name} 1"), (f"{name} edited", f"{name} edited")]
    assert provider.sent == {f"{name} edited": 1}
    db.execute("SELECT embed_drop(%s)", (name,))

    # The same row for a pipeline without triggers: a key as its user writes it must find it.
    db.execute(
        "SELECT embed_create(%s, 't', columns => '{body}', model => 'loop', view_name => 'v',"
        " capture => 'manual', backfill => false)",
        (name,),
    )
    assert drain(db, name) == 0
    written = KINDS[name].written
    become(db, WRITER).execute("SELECT embed_touch(%s, %s)", (name, written))
    assert drain(become(db, WORKER), name) == 1
    assert texts_in_view(become(db, READER), "v") == [f"{name} edited"]
    story = db.execute("SELECT embed_explain(%s, %s)", (name, written)).fetchall()[0][0]
    assert "fresh" in story
    assert f"{name} edited" in story


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
