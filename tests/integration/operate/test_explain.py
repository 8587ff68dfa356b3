"""embed_explain tells one row's whole story, in each of its states."""

import pytest

from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database


def story(db, key="[1]"):
    return db.execute("SELECT embed_explain('docs', %s)", [key]).fetchone()[0]


def test_a_rows_life(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    told = story(db)
    for words in (
        "pipeline docs, key [1], model hash8",
        "stored: nothing",
        "title 1 body 1",
        "would be called for 1 of 1 chunk: the backfill has not reached this row",
    ):
        assert words in told
    db.execute("SELECT embed_drain()")
    assert "the model would not be called: the embedding is fresh" in story(db)
    assert "queue: nothing waits" in story(db)
    db.execute("UPDATE docs SET body = 'another' WHERE id = 1")
    db.execute("UPDATE docs SET body = 'yet another' WHERE id = 1")
    told = story(db)
    assert "change log: 2 changes" in told
    assert "would be called for 1 of 1 chunk: the watched columns changed" in told
    db.execute("UPDATE docs SET body = 'body 1' WHERE id = 1")
    assert "fresh" in story(db)  # back to what is stored
    db.execute("UPDATE docs SET body = (SELECT body FROM docs WHERE id = 2), title = 'title 2' WHERE id = 1")
    assert "every text was embedded before" in story(db)
    db.execute("UPDATE docs SET title = NULL, body = '  ' WHERE id = 1")
    assert "there is no text" in story(db)
    db.execute("DELETE FROM docs WHERE id = 1")
    assert "an orphan, a drain removes it" in story(db)
    db.execute("SELECT embed_drain()")
    assert "source: no such row" in story(db)
    assert "orphan" not in story(db)


def test_chunks_are_listed(db, docs):
    hash_model(db)
    chunker = "embed_chunk_text(size => 40)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    db.execute("UPDATE docs SET body = repeat('One more sentence here. ', 5) WHERE id = 1")
    told = story(db)
    assert "source: 5 chunks" in told
    assert [line[:4] for line in told.splitlines() if line.startswith("  ")] == [f"  {i}:" for i in range(5)]


@pytest.mark.fresh_database
def test_the_diagnosis_comes_before_the_chunks_however_many_there_are(db, docs):
    """What is looked for is on the first screen: long texts, many chunks, errors that quote them, two generations."""
    hash_model(db)
    chunker = "embed_chunk_text(size => 40)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    db.execute("UPDATE docs SET body = repeat('One more sentence here. ', 1167) WHERE id = 1")
    db.execute("SELECT embed_build('docs', chunker => embed_chunk_none(), columns => '{body}')")
    db.execute(
        "INSERT INTO embed.failure (generation, key, class, message, attempts, first_at, last_at)"
        " SELECT id, '[1]', 'permanent', repeat('no ', 100000), 1, now(), now() FROM embed.generation"
    )
    lines = story(db).splitlines()
    assert len(lines) < 35
    assert max(map(len, lines)) < 700
    chunks = lines.index("chunks of generation 1:")
    verdicts = [place for place, line in enumerate(lines) if "the model would be called" in line]
    assert len(verdicts) == 2
    assert max(verdicts) < chunks
    assert lines[verdicts[0]] == "the model would be called for 1,167 of 1,167 chunks: no row is stored"
    assert [line[:4] for line in lines[chunks + 1 : chunks + 11]] == [f"  {i}:" for i in range(10)]
    assert lines[chunks + 11] == "  and 1,157 more"
    assert "generation 2, which is being built, model hash8:" in lines[:chunks]
    assert "28,008 characters" in lines[-1]


def test_scalar_keys_and_stored_forms_tell_the_same(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    assert story(db, "1") == story(db, "[1]") == story(db, '["1"]')


def test_failures_are_told(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    provider.answer = lambda texts: (400, b"indigestible") if "body 1" in texts else None
    db.execute("SELECT embed_drain()")
    told = story(db)
    assert "given up" in told
    assert "indigestible" in told
    provider.answer = lambda _: (503, b"asleep")
    db.execute("UPDATE docs SET body = 'new' WHERE id = 2")
    db.execute("SELECT embed_drain()")
    told = story(db, "[2]")
    assert "waits until" in told
    assert "last error: " in told
    assert "503" in told


def test_a_row_at_the_model_is_told(db, connect, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    assert "claimed by a worker" in story(db)
    provider.release()
    work.result()


def test_paused_broken_and_too_long_are_told(db, docs, provider):
    provider.register(db, "short", input_tokens=5)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'short')")
    db.execute("UPDATE docs SET body = repeat('word ', 20) WHERE id = 1")
    assert "longer than the model's 5 tokens" in story(db)
    db.execute("SELECT embed_pause('docs')")
    assert "paused" in story(db)
    db.execute("ALTER TABLE docs DROP COLUMN body")
    assert "cannot be read" in story(db)


def test_explaining_sends_nothing_and_changes_nothing(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    before = db.execute("SELECT to_jsonb(s) - 'oldest_pending_age' FROM embed_status s").fetchone()
    story(db)
    assert not provider.sent
    assert db.execute("SELECT to_jsonb(s) - 'oldest_pending_age' FROM embed_status s").fetchone() == before
