"""The recall of a vector index is measured on its rows, and searches take the width that reaches the target."""

import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

ROWS = 4000
WORK = "CALL embed_work(until_empty => true)"
FIGURES = "SELECT recall, ef_search FROM embed_generations WHERE state = 'active'"


def make(db, connect, options="{}"):
    """Random directions in many dimensions, where an index misses most."""
    hash_model(db, "hash", 96)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, %s) i", (ROWS,))
    db.execute("SELECT embed_setting('index_from', '1000')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash', options => %s)", (options,))
    drain_all(db)
    connect().execute(WORK)  # the index
    connect().execute(WORK)  # its recall


def exact(db, question):
    return {
        number
        for (number,) in db.execute(
            "SELECT k1 FROM embed_store.g1 ORDER BY (embedding <=> embed_query('docs', %s)) + 0 LIMIT 10", (question,)
        )
    }


def reached(db, questions=40):
    """Recall@10 of embed_search for questions that are no text."""
    hits = 0
    for number in range(questions):
        question = f"question {number}"
        found = {key[0] for (key,) in db.execute("SELECT key FROM embed_search('docs', %s)", (question,))}
        hits += len(found & exact(db, question))
    return hits / (10 * questions)


def test_the_width_that_reaches_the_target_is_found_and_taken(db, connect):
    make(db, connect, '{"recall_target": 0.99}')
    recall, width = db.execute(FIGURES).fetchone()
    assert recall >= 0.99
    assert 40 < width <= 1000
    assert reached(db) >= 0.9
    db.execute("UPDATE embed.index_recall SET ef_search = 10")
    db.execute("SET hnsw.ef_search = 10")
    assert reached(db, 20) < 0.7, "the width makes the difference"
    db.execute("SET hnsw.ef_search = 1000")
    assert reached(db, 20) >= 0.95, "a greater one of the session is not made smaller"
    assert db.execute("SHOW hnsw.ef_search").fetchone() == ("1000",)


def test_a_lower_target_takes_less(db, connect):
    make(db, connect, '{"recall_target": 0.5}')
    recall, width = db.execute(FIGURES).fetchone()
    assert 0.5 <= recall <= 1
    assert width == 40


@pytest.mark.stress
@pytest.mark.fresh_database
def test_it_is_measured_again_for_another_index_and_forgotten_with_it(db, connect):
    make(db, connect)
    db.execute("UPDATE embed.index_recall SET recall = 0")
    connect().execute(WORK)
    assert db.execute(FIGURES).fetchone()[0] == 0, "once a day is enough"
    db.execute("UPDATE embed.index_recall SET measured_at = now() - interval '2 days'")
    connect().execute(WORK)
    assert db.execute(FIGURES).fetchone()[0] > 0.9
    db.execute("UPDATE embed.index_recall SET recall = 0; REINDEX INDEX embed_store.g1_embedding_idx")
    db.execute("UPDATE embed.index_recall SET index = 1")
    connect().execute(WORK)
    assert db.execute(FIGURES).fetchone()[0] > 0.9
    db.execute("SELECT embed_drop('docs')")
    connect().execute(WORK)
    assert db.execute("SELECT count(*) FROM embed.index_recall").fetchone() == (0,)


@pytest.mark.parametrize("target", ["0.2", "1.5", '"high"', "true"])
def test_a_target_that_is_none_is_refused(db, target):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    with pytest.raises(Exception, match="recall_target"):
        db.execute(
            "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8', options => %s)",
            (f'{{"recall_target": {target}}}',),
        )
