"""embed_verify believes nothing that is recorded; repair heals whatever it finds."""

import pytest

from tests.fixtures.error_checks import agree
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

STATES = ("fresh", "stale", "missing", "orphan", "mixed")
# Damage to the tables, and what embed_verify must find. The pipeline has ten fresh rows.
TAMPERED = {
    "nothing": ("SELECT 1", {"fresh": 10}),
    "source changed past the trigger": (
        "ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET body = 'new' WHERE id <= 2",
        {"fresh": 8, "stale": 2},
    ),
    "row added past the trigger": (
        "ALTER TABLE docs DISABLE TRIGGER USER; INSERT INTO docs VALUES (11, 't', 'b')",
        {"fresh": 10, "missing": 1},
    ),
    "rows deleted past the trigger": (
        "ALTER TABLE docs DISABLE TRIGGER USER; DELETE FROM docs WHERE id <= 3",
        {"fresh": 7, "orphan": 3},
    ),
    "document gone": ("DELETE FROM embed.document WHERE key = '[1]'", {"fresh": 9, "missing": 1, "orphan": 1}),
    "chunk gone": ("DELETE FROM embed_store.g1 WHERE k1 = 1", {"fresh": 9, "stale": 1}),
    "document and chunk gone": (
        "DELETE FROM embed.document WHERE key = '[1]'; DELETE FROM embed_store.g1 WHERE k1 = 1",
        {"fresh": 9, "missing": 1},
    ),
    "all documents gone": ("TRUNCATE embed.document", {"missing": 10, "orphan": 10}),
    "store emptied": ("TRUNCATE embed_store.g1", {"stale": 10}),
    "fingerprint of the document": (
        "UPDATE embed.document SET fingerprint = '\\x00' WHERE key = '[1]'", {"fresh": 9, "mixed": 1},
    ),
    "fingerprint of both": (
        "UPDATE embed.document SET fingerprint = '\\x00'; UPDATE embed_store.g1 SET fingerprint = '\\x00'",
        {"stale": 10},
    ),
    "hash of a chunk": ("UPDATE embed_store.g1 SET chunk_hash = '\\x00' WHERE k1 = 4", {"fresh": 9, "stale": 1}),
    "chunk numbers": ("UPDATE embed_store.g1 SET chunk_no = 7 WHERE k1 = 4", {"fresh": 9, "stale": 1}),
    "text of a chunk": ("UPDATE embed_store.g1 SET chunk = 'forged' WHERE k1 = 4", {"fresh": 9, "stale": 1}),
    "model of a chunk": ("UPDATE embed_store.g1 SET model = 'another' WHERE k1 = 4", {"fresh": 9, "mixed": 1}),
    "chunk under another row's key": ("UPDATE embed_store.g1 SET k1 = 9 WHERE k1 = 4", {"fresh": 9, "stale": 1}),
    "source hash of a chunk": ("UPDATE embed_store.g1 SET src_hash = '\\x00' WHERE k1 = 4", {"fresh": 9, "stale": 1}),
}  # fmt: skip


@pytest.fixture
def fresh(db, docs):
    hash_model(db)
    create(db)


def create(db):
    """Recreate the pipeline on ten rows; return the numbers in the names of its table and triggers."""
    db.execute("TRUNCATE docs")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
    db.execute("SELECT embed_drop('docs', if_exists => true)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    return db.execute("SELECT generation FROM embed_pipelines").fetchone()[0]


def verify(db, repair=""):
    return dict(db.execute(f"SELECT * FROM embed_verify('docs'{repair})").fetchall())


def full(found):
    return dict.fromkeys(STATES, 0) | found


@pytest.mark.slow
def test_what_was_tampered_with_is_found_and_healed(db, fresh):
    found, healed = {}, {}
    for how, (statements, _) in TAMPERED.items():
        generation = create(db)
        for one in statements.split("; "):
            db.execute(one.replace("embed_store.g1", f"embed_store.g{generation}"))
        found[how] = verify(db)
        assert verify(db) == found[how]  # looking changes nothing
        assert verify(db, ", repair => true") == found[how]
        db.execute("SELECT embed_drain()")
        db.execute("SELECT embed_drain()")
        wrong = (
            "SELECT id FROM docs d FULL JOIN docs_embedding e USING (id) WHERE body <> chunk OR is_stale IS NOT false"
        )
        healed[how] = verify(db), db.execute(wrong).fetchall(), db.execute("SELECT count(*) FROM docs").fetchone()[0]
    agree(found, {how: full(expected) for how, (_, expected) in TAMPERED.items()})
    agree(healed, {how: (full({"fresh": rows}), [], rows) for how, (_, _, rows) in healed.items()})


def test_without_repair_nothing_is_queued(db, fresh):
    db.execute("DELETE FROM embed.document WHERE key = '[1]'")
    verify(db)
    assert db.execute("SELECT pending FROM embed_status").fetchone() == (0,)
    verify(db, ", repair => true")
    assert db.execute("SELECT pending FROM embed_status").fetchone() == (1,)


def test_repair_costs_no_call_for_texts_that_are_there(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_drain()")
    provider.reset()
    db.execute("UPDATE embed.document SET src_hash = '', fingerprint = ''")
    verify(db, ", repair => true")
    db.execute("SELECT embed_drain()")
    assert verify(db) == full({"fresh": 10})
    assert not provider.sent


def test_more_rows_than_a_slice_are_all_counted(db):
    hash_model(db)
    db.execute("CREATE TABLE docs (a text, b int, body text, PRIMARY KEY (b, a))")
    db.execute("INSERT INTO docs SELECT 'a' || i % 3, i, 'body ' || i FROM generate_series(1, 1203) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain(max_rows => 1000)")
    assert verify(db) == full({"fresh": 1000, "missing": 203})
    db.execute("SELECT embed_drain()")
    assert verify(db) == full({"fresh": 1203})


def test_a_row_too_long_for_the_model_is_not_fresh(db, docs, provider):
    provider.register(db, "short", input_tokens=5)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'short')")
    db.execute("SELECT embed_drain()")
    db.execute("UPDATE docs SET body = repeat('word ', 20) WHERE id = 1")
    db.execute("SELECT embed_drain()")
    assert verify(db) == full({"fresh": 9, "stale": 1})
