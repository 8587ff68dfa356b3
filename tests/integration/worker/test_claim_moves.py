"""The source moves on between a claim and its submit; rows are given back, fail, and cost what they may."""

import pytest

from tests.fixtures.external_compute import claim, embed_all, kept, let_leases_run_out, release, submit
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, status_of
from tests.fixtures.pipelines.endpoints import hurry
from tests.fixtures.stress import left

pytestmark = pytest.mark.shared_database


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    return "docs"


MOVES = {
    "edited": ("UPDATE docs SET body = 'edited' WHERE id <= 3", 7),
    "deleted": ("DELETE FROM docs WHERE id <= 3", 10),
    "key changed": ("UPDATE docs SET id = id + 100 WHERE id <= 3", 10),
    "no text": ("UPDATE docs SET title = NULL, body = NULL WHERE id <= 3", 10),
    "edited back": ("UPDATE docs SET body = 'edited'; UPDATE docs SET body = 'body ' || id", 10),
    "truncated": ("TRUNCATE docs", 10),
    "truncated and filled": ("TRUNCATE docs; INSERT INTO docs VALUES (1, 'a', 'new one')", 9),
    "renamed": ("ALTER TABLE docs RENAME body TO content; ALTER TABLE docs RENAME content TO body", 10),
}


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("folded", [True, False])
def test_what_is_written_is_what_the_rows_are_at_the_submit(db, pipeline, folded):
    """``folded``: a worker saw the change before the submit."""
    for move, (statement, done) in MOVES.items():
        db.execute("TRUNCATE docs")
        db.execute("INSERT INTO docs SELECT i, %s || i, 'body ' || i FROM generate_series(1, 10) i", (move,))
        texts = claim(db)
        assert len(texts) == 10, move
        db.execute(statement)
        if folded:
            drain_once(db)
        assert submit(db, texts) <= done, move
        assert db.execute("SELECT count(*) FROM embed.job WHERE token IS NOT NULL").fetchone() == (0,), move
        drain_all(db)
        assert_as_source(db)
        assert left(db) == {}, move


def test_a_table_that_cannot_be_read_any_more_keeps_the_vectors(db, pipeline):
    texts = claim(db)
    db.execute("ALTER TABLE docs DROP COLUMN body")
    assert submit(db, texts) == 0
    assert kept(db) == 10


@pytest.mark.slow
def test_a_pipeline_that_is_dropped_has_no_claims(db, pipeline):
    texts = claim(db)
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    assert submit(db, texts) == 0
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert db.execute("SELECT count(*) FROM embed.claimed_text").fetchone() == (0,)


def test_what_was_forgotten_does_not_come_back(db, pipeline):
    texts = claim(db)
    db.execute("DELETE FROM docs WHERE id = 1")
    db.execute("SELECT embed_forget('docs', '[1]')")
    submit(db, texts)
    assert kept(db) == 0
    drain_all(db)
    assert_as_source(db)


def test_rows_given_back_are_anybodys_at_once(db, pipeline, provider):
    texts = claim(db)
    assert release(db, texts[:3]) == 3
    assert drain_once(db) == 3
    assert sorted(provider.sent) == sorted(one.text for one in texts[:3])
    assert submit(db, texts[3:5]) == 2
    assert db.execute("SELECT embed_release('docs', %s)", (texts[0].token,)).fetchone() == (5,)
    assert left(db) == {"job": 5}
    assert drain_once(db) == 5
    assert_as_source(db)
    assert left(db) == {}
    assert status_of(db, "texts") == 10


def test_rows_that_failed_lose_an_attempt_and_wait_and_are_given_up(db, pipeline, provider):
    db.execute("""SELECT embed_alter('docs', '{"max_attempts": 2}')""")
    texts = claim(db)
    assert release(db, texts[:2], "CUDA out of memory") == 2
    assert db.execute("SELECT count(*) FROM embed.job WHERE token IS NULL AND attempts = 1").fetchone() == (2,)
    assert claim(db) == []  # they wait
    assert status_of(db, "last_error") == "CUDA out of memory"
    hurry(db)
    again = claim(db)
    assert {one.text for one in again} == {one.text for one in texts[:2]}
    release(db, again[:1], "CUDA out of memory")
    failures = db.execute("SELECT key, class, message, attempts FROM embed_failures").fetchall()
    assert failures == [(again[0].key, "retryable", "CUDA out of memory", 2)]
    assert submit(db, again[1:]) == 1
    assert submit(db, texts[2:]) == 8
    assert status_of(db, "failed") == 1
    assert left(db) == {"failure": 1}
    assert provider.sent.total() == 0


def test_a_row_that_is_given_back_untried_keeps_its_last_error(db, pipeline):
    """The row failed with it when it was last tried; a claimer that stops tells nothing new."""
    release(db, claim(db)[:1], "CUDA out of memory")
    hurry(db)
    again = claim(db)
    release(db, again)
    assert db.execute("SELECT last_error FROM embed.job WHERE attempts = 1").fetchone() == ("CUDA out of memory",)


def test_a_row_given_back_with_one_of_its_texts(db, docs, model):
    db.execute("UPDATE docs SET body = E'# a\\none\\n# b\\ntwo' WHERE id = 1")
    db.execute("DELETE FROM docs WHERE id > 1")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop', chunker => embed_chunk_markdown())"
    )
    one, two = claim(db)
    assert release(db, [one]) == 1
    again = claim(db)
    assert [text.text for text in again] == []  # its other text is still out
    assert submit(db, [two]) == 0
    assert [text.text for text in claim(db)] == []
    hurry(db)
    (last,) = claim(db)
    assert last.text == one.text
    assert submit(db, [last]) == 1
    assert left(db) == {}


def test_what_is_handed_out_is_counted_and_limited_as_what_is_sent(db, pipeline):
    """Ten texts of 4 or 5 tokens each, 20 a day."""
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 20}')""")
    texts = claim(db)
    assert len(texts) == 5
    assert status_of(db, "state") == "over budget"
    assert claim(db) == []
    assert drain_once(db) == 0
    release(db, texts[:2])  # gives back what it would have cost
    assert status_of(db, "state") == "active"
    assert len(claim(db)) == 2
    assert submit(db, texts[2:], tokens=30) == 3  # billed more than was reckoned
    assert db.execute("SELECT calls, texts, tokens, cost FROM embed_usage").fetchall() == [(1, 3, 30, None)]
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 35}')""")
    assert status_of(db, "state") == "over budget"


def test_a_text_that_no_day_could_pay_for_is_a_dead_letter(db, pipeline):
    db.execute("UPDATE docs SET body = repeat('long ', 100) WHERE id = 3")
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 100}')""")
    assert len(embed_all(db)) == 9
    assert db.execute("SELECT key, class FROM embed_failures").fetchall() == [([3], "permanent")]
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": null, "daily_cost": null}')""")


def test_the_price_is_that_of_the_model(db, docs, provider):
    provider.register(db, price=1000000)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    submit(db, claim(db)[:3], tokens=7)
    assert status_of(db, "cost") == 7
    db.execute("UPDATE docs SET title = 'title 2', body = 'body 2' WHERE id = 1")
    let_leases_run_out(db)
    embed_all(db)
    rows = db.execute("SELECT calls, texts, saved_by_cache + saved_by_dedupe FROM embed_usage").fetchone()
    assert rows[1] >= 9
    assert rows[2] >= 1
