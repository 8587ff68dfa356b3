"""Random histories of edits, builds and switches: what is shown is of one model, right for its text, and proved so."""

import random

import orjson
import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all, verified
from tests.fixtures.pipelines.endpoints import serve
from tests.fixtures.providers.loopback import vector
from tests.fixtures.stress import seed_of

DIMENSIONS = {"six": 6, "four": 4, "five": 5}
STEPS = {
    "edit": "UPDATE docs SET body = 'body ' || (random() * 20)::int WHERE id = 1 + (random() * 9)::int",
    "title": "UPDATE docs SET title = 'title ' || (random() * 20)::int WHERE id = 1 + (random() * 9)::int",
    "delete": "DELETE FROM docs WHERE id = 1 + (random() * 9)::int",
    "insert": "INSERT INTO docs VALUES (1 + (random() * 9)::int, 'new', 'row') ON CONFLICT DO NOTHING",
    "truncate": "TRUNCATE docs",
    "some": "SELECT embed_drain(max_rows => 3)",
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(until_empty => true)",
    "promote": "SELECT embed_promote('docs', min_coverage => 0)",
    "gate": "SELECT embed_promote('docs')",
    "rollback": "SELECT embed_rollback('docs')",
    "retire": "SELECT embed_retire('docs')",
    "verify": "SELECT embed_verify('docs', true)",
    **{f"build {name}": f"SELECT embed_build('docs', model => '{name}')" for name in DIMENSIONS},
    "build title": "SELECT embed_build('docs', columns => '{title}')",
    "build both": "SELECT embed_build('docs', columns => '{title,body}', chunker => embed_chunk_text(12))",
}
REFUSALS = ("55000",)  # below the gate, nothing to promote, one being built already


def check(db):
    """Every row shown is of the active generation, by its model, and stale exactly where its text is an older one."""
    ((number, model, columns, chunker),) = db.execute(
        "SELECT generation, model, columns, chunker FROM embed_generations WHERE state = 'active'"
    ).fetchall()
    texts = dict(db.execute(f"SELECT id, concat_ws(E'\\n\\n', {', '.join(columns)}) FROM docs").fetchall())
    shown = db.execute("SELECT id, chunk, embedding::text, model, generation, is_stale FROM docs_embedding").fetchall()
    for key, chunk, embedding, by, of, is_stale in shown:
        assert (by, of) == (model, number)
        assert orjson.loads(embedding) == pytest.approx(vector(chunk, DIMENSIONS[model]), abs=1e-6)
        if chunker == {"chunker": "none"}:
            assert is_stale or chunk == texts[key]
    assert verified(db)["mixed"] == 0


def run(db, seed, steps):
    chance = random.Random(seed)
    db.execute("SELECT setseed(%s)", (chance.random(),))
    for name in chance.choices(list(STEPS), k=steps):
        try:
            db.execute(STEPS[name])
        except psycopg.Error as error:
            if error.sqlstate not in REFUSALS:
                raise
        check(db)


@pytest.fixture
def pipeline(db, docs, provider):
    serve(db, provider, "loop")
    for name, dimensions in DIMENSIONS.items():
        db.execute(
            "SELECT embed_model_add(%s, 'openai', %s, endpoint => 'loop', options => '{\"send_dimensions\": true}')",
            (name, dimensions),
        )
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'six')")


@pytest.mark.parametrize("steps", [60, pytest.param(1000, marks=pytest.mark.stress)])
def test_histories(db, pipeline, provider, steps):
    run(db, seed_of("histories"), steps)
    drain_all(db)
    check(db)
    rows = db.execute("SELECT count(*) FROM docs").fetchone()[0]
    assert verified(db) == {"fresh": rows, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone() == (0,)
