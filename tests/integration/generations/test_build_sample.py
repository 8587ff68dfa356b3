"""A rebuild of a large table embeds a random sample first, so that pairs of all its parts come soon."""

import statistics

import pytest

from tests.fixtures.pipelines.documents import drain_all, verified
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.slow

ROWS = 10_500


@pytest.fixture
def large(db):
    hash_model(db)
    hash_model(db, "hash16", 16)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, %s::int) i", (ROWS,))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    drain_all(db)


@pytest.mark.stress
def test_the_first_rows_are_of_the_whole_table_and_the_others_follow(db, large):
    db.execute("SELECT embed_build('docs', model => 'hash16')")
    db.execute("SELECT embed_drain(max_rows => 1000)")
    first = [key for (key,) in db.execute("SELECT k1 FROM embed_store.g2").fetchall()]
    assert len(first) == 1000
    assert 0.45 * ROWS < statistics.mean(first) < 0.55 * ROWS
    assert min(first) < 0.05 * ROWS
    assert max(first) > 0.95 * ROWS
    pairs, active = db.execute("SELECT pairs, active FROM embed_bridge('docs', min_recall => 0)").fetchone()
    assert (pairs, active) == (1000, True)
    db.execute("UPDATE docs SET body = 'edited' WHERE id <= 20; DELETE FROM docs WHERE id > 10400")
    drain_all(db)
    assert verified(db)["fresh"] == 10_400
    assert db.execute("SELECT count(*), count(DISTINCT k1) FROM embed_store.g2").fetchone() == (10_400, 10_400)
    db.execute("SELECT embed_promote('docs')")
    assert verified(db) == {"fresh": 10_400, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}


@pytest.mark.stress
def test_a_worker_and_the_cursor_do_not_embed_a_row_twice(db, connect, provider, large):
    provider.register(db, "loop")
    db.execute("SELECT embed_build('docs', model => 'loop')")
    connect().execute("CALL embed_work(until_empty => true, max_runtime => '55 s')")
    assert len(provider.sent) == ROWS
    assert set(provider.sent.values()) == {1}
    assert db.execute("SELECT coverage FROM embed_generations WHERE generation = 2").fetchone() == (1.0,)


def test_of_a_small_table_nothing_is_queued(db, docs):
    hash_model(db)
    hash_model(db, "hash16", 16)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    drain_all(db)
    db.execute("SELECT embed_build('docs', model => 'hash16')")
    assert db.execute("SELECT count(*) FROM embed.job").fetchone() == (0,)
