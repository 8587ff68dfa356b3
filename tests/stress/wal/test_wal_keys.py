"""A key read from the WAL equals the key that a trigger logs, for all types and settings."""

import pytest

from tests.fixtures.pipelines.freshness import WORKER, WRITER, become
from tests.fixtures.pipelines.key_types import KINDS
from tests.fixtures.wal import WORK, work

pytestmark = pytest.mark.stress


@pytest.fixture
def kinds(db):
    """A table of each kind of key with two pipelines: one that triggers tell, and one that is read from the WAL."""
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("CREATE EXTENSION IF NOT EXISTS citext")
    names = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        for statement in kind.before.replace("CREATE EXTENSION citext SCHEMA public", "SELECT 1").split(";"):
            if statement.strip():
                db.execute(statement)
        keys = [f"k{i}" for i in range(len(kind.types))]
        columns = ", ".join(f"{key} {type_name}" for key, type_name in zip(keys, kind.types, strict=True))
        table = f"t{number}"
        db.execute(f"CREATE TABLE {table} (body text, {columns}, PRIMARY KEY ({', '.join(keys)}))")
        for capture in ("trigger", "cdc"):
            db.execute(
                "SELECT embed_create(%s, %s, columns => '{body}', model => 'h8', capture => %s)",
                (f"{table}_{capture}", table, capture),
            )
        names[table] = name
    work(db)
    db.execute("SELECT embed_pause(pipeline) FROM embed_pipelines")
    return names


def logged(db, pipeline):
    """The keys in a pipeline's log, as texts."""
    query = (
        "SELECT DISTINCT coalesce(c.key::text, c.scope) FROM embed.change_log c JOIN embed.pipeline p"
        " ON p.id = c.pipeline WHERE p.name = %s ORDER BY 1"
    )
    return [key for (key,) in db.execute(query, (pipeline,)).fetchall()]


def test_keys_are_the_triggers_keys(connect, db, kinds):
    writer = become(connect(), {name: value for name, value in WRITER.items() if name != "client_encoding"})
    worker = become(connect(), WORKER)
    wrong = {}
    for table, name in kinds.items():
        for key in KINDS[name].keys:
            writer.execute(f"INSERT INTO {table} VALUES ('text', {key})")
        writer.execute(f"UPDATE {table} SET body = 'edited'")
        writer.execute(f"DELETE FROM {table}")
    worker.execute(WORK)
    for table, name in kinds.items():
        by_trigger, read = logged(db, f"{table}_trigger"), logged(db, f"{table}_cdc")
        if by_trigger != read or len(read) != 4:
            wrong[name] = (by_trigger, read)
    assert wrong == {}


def test_a_name_that_was_another_columns_when_the_key_was_written(db):
    """What was logged as "id" then is no key: all is looked at."""
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("CREATE TABLE docs (id text, nr int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs VALUES ('one', 1, 'body'), ('2', 3, 'other')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8', capture => 'cdc')")
    work(db)
    db.execute("UPDATE docs SET body = 'edited'")
    db.execute("ALTER TABLE docs RENAME id TO old; ALTER TABLE docs RENAME nr TO id")
    work(db)
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 2
    db.execute("UPDATE docs SET body = 'edited since'")
    work(db)
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 2
