"""One text whose vector the database refuses: a refusal is for a whole call, and the embedder must not end with it."""

import pytest

from evergreen_host.compute import embedder
from evergreen_host.compute.embedder import Embedder, ModelFailedError, Settings
from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.providers.loopback import vector
from tests.fixtures.stress import make_docs, often

pytestmark = pytest.mark.shared_database

SPOILED = {
    "too short": lambda good: good[:-1],
    "too long": lambda good: good * 3000,
    "beyond float32": lambda good: [1e39, *good[1:]],
    "zeros in float32": lambda good: [1e-50] * len(good),
    "no length": lambda good: [1e-30] * len(good),
    "no cosine": lambda good: [1e30] * len(good),
    "NaN": lambda good: [float("nan"), *good[1:]],
    "nested": lambda good: [good],
    "nothing": lambda _: None,
}


@pytest.fixture
def run(dsn, db, model, monkeypatch):
    """Embeds 20 documents; spoils the vectors of those texts that a condition names."""
    make_docs(db, 20)
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 5")

    def embed_with(spoil, when):
        def factory(_model):
            return lambda texts: [spoil(vector(t, 8)) if when(t) else vector(t, 8) for t in texts]

        monkeypatch.setattr(embedder, "load", lambda _name: factory)
        return Embedder(Settings(dsn, "docs", "given:above", batch=50, until_empty=True)).run()

    return embed_with


@pytest.mark.few(1)
@pytest.mark.parametrize("spoil", often(SPOILED, "beyond float32", "nested"))
def test_its_row_alone_waits(db, run, spoil):
    assert run(SPOILED[spoil], lambda text: "poison" in text) == 19
    assert status_of(db, "fresh") == 19
    assert db.execute("SELECT key, attempts > 0, last_error <> '' FROM embed.job").fetchall() == [([5], True, True)]


@pytest.mark.parametrize("spoil", ["too short", "no cosine"])
def test_a_model_that_gives_no_good_vector_at_all_costs_no_attempt(db, run, spoil, monkeypatch):
    monkeypatch.setattr(embedder, "_MAX_FAILURES", 1)
    with pytest.raises(ModelFailedError, match="the vector"):
        run(SPOILED[spoil], lambda _text: True)
    assert db.execute("SELECT count(*), max(attempts) FROM embed.job").fetchone() == (20, 0)
