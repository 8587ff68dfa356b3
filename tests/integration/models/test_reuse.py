"""Vectors of one revision serve no row of another: not from the cache, not from a pipeline that takes any model."""

import pytest

from tests.fixtures.pipelines.documents import verified
from tests.fixtures.providers.turning import cached_by_model, model_of_vectors
from tests.fixtures.waiting import wait_until
from tests.integration.models.watching import every, finish, insert, look_once, watch, work, work_until


@pytest.fixture
def unnoticed(db, watched):
    """Another model is served, and the next look is an hour away."""
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    watched.become("new")
    return watched


def test_a_replaced_vector_is_not_taken_from_the_cache_again(db, unnoticed):
    insert(db, "first")
    finish(db)
    db.execute("UPDATE docs SET body = 'second' WHERE body = 'first'")
    finish(db)
    assert cached_by_model(db, 1, unnoticed) == {"new"}
    every(db, "50 ms")
    work_until(db, "model changed")
    assert cached_by_model(db, 1, unnoticed) == set()
    unnoticed.become("old")
    db.execute("UPDATE docs SET body = 'first' WHERE body = 'second'")
    work_until(db, "active")
    finish(db)
    assert set(model_of_vectors(db, "embed_store.g1", unnoticed)) == {"old"}
    assert verified(db)["fresh"] == 11


def test_a_tolerant_pipeline_lends_no_vectors(db, watched):
    db.execute("CREATE TABLE papers (id int PRIMARY KEY, title text, body text)")
    db.execute(
        "SELECT embed_create('papers', 'papers', columns => '{title,body}', model => 'loop',"
        ' options => \'{"on_model_change": "warn"}\')'
    )
    look_once(db, watched)
    watched.become("new")
    work_until(db, "model changed")
    db.execute("INSERT INTO papers VALUES (1, 'title', 'shared')")
    wait_until(lambda: work(db) or model_of_vectors(db, "embed_store.g2", watched).get("new"))
    db.execute("DELETE FROM papers")
    finish(db)
    db.execute("INSERT INTO papers VALUES (2, 'title', 'shared')")
    finish(db)
    insert(db, "shared")
    watched.become("old")
    work_until(db, "active")
    finish(db)
    assert set(model_of_vectors(db, "embed_store.g1", watched)) == {"old"}
    assert watch(db) == (1, True)


def test_a_bridge_is_not_learned_from_vectors_that_may_be_of_another_model(db, watched):
    db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(11, 160) i")
    finish(db)
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    watched.become("new")
    db.execute("UPDATE docs SET body = 'in between ' || id WHERE id > 120")
    finish(db)
    every(db, "50 ms")
    work_until(db, "model changed")
    marked = model_of_vectors(db, "embed_store.g1", watched)["marked"]
    assert len(marked) >= 40
    db.execute("SELECT embed_build('docs')")
    finish(db)
    pairs = db.execute("SELECT pairs FROM embed_bridge('docs', min_recall => 0)").fetchone()[0]
    assert pairs == 160 - len(marked)


def test_a_rebuild_takes_nothing_of_the_old_generation(db, watched):
    look_once(db, watched)
    watched.become("new")
    work_until(db, "model changed")
    assert db.execute("SELECT embed_build('docs')").fetchone() == (2,)
    shown = db.execute("SELECT model_revision FROM embed_generations ORDER BY generation").fetchall()
    assert shown == [(1,), (2,)]
    finish(db)
    assert set(model_of_vectors(db, "embed_store.g2", watched)) == {"new"}
    assert set(model_of_vectors(db, "embed_store.g1", watched)) <= {"old", "marked"}
