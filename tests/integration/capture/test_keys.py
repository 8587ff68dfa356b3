"""Keys of every type, written, worked on and read under settings that print them differently."""

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
