"""Generations: two models on one loopback provider, told apart by their dimensions."""

import pytest

from tests.fixtures.pipelines.endpoints import serve


@pytest.fixture
def models(db, provider):
    """Models ``old`` and ``new``, both of eight dimensions, and ``short`` of four: by their names at the provider."""
    serve(db, provider, "old")
    for name, dimensions in (("new", 8), ("short", 4)):
        db.execute(
            "SELECT embed_model_add(%s, 'openai', %s, endpoint => 'old', options => '{\"send_dimensions\": true}')",
            (name, dimensions),
        )


@pytest.fixture
def pipeline(db, docs, models):
    """Pipeline ``docs`` with model ``old``, drained."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'old')")
    db.execute("SELECT embed_drain()")
