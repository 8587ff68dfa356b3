"""Against pgai's vectorizer worker: the same documents, the same model, in the same run.

It speaks Ollama's protocol, whose vectors are JSON numbers; Evergreen here speaks OpenAI's, whose vectors are base64.
Measured twice: with the settings that it comes with, 50 rows at a time, and with the best that were found for it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.bench.measure import report, take_turns, timed
from tests.bench.model_server import serving
from tests.bench.texts import fill
from tests.fixtures.pgai_environment import Worker, environment

DIMENSIONS = 256
ROWS = 5_000
ROUNDS = 3
VECTORIZER = """SELECT ai.create_vectorizer('docs'::regclass,
    loading => ai.loading_column('body'),
    embedding => ai.embedding_ollama('m', %s, base_url => %s),
    chunking => ai.chunking_none(), formatting => ai.formatting_python_template('$chunk'),
    destination => ai.destination_table('theirs'),
    processing => ai.processing_default(batch_size => %s),
    indexing => ai.indexing_none(), scheduling => ai.scheduling_none())"""

# Rows a batch, and batches side by side in its process. Also tried, rows/s of one run: 50 in 1: 1 260, 50 in 4: 1 470,
# 200 in 4: 3,450, 500 in 4: 4,490, 1000 in 1: 5,160, 2048 in 1: 5,420, 1000 in 4: 5,820, 1000 in 2: 7,020.
AS_IT_COMES, BEST = (50, 1), (1000, 2)
THEIRS, THEIR_BEST, DRAIN, WORK = "pgai", "pgai, best settings", "embed_drain()", "CALL embed_work()"

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with pgai in it."""
    return environment()


@pytest.fixture
def worker(python: Path, db: psycopg.Connection[Any], dsn: str) -> Iterator[Worker]:
    """A worker, and its tables in the database."""
    made = Worker(python, dsn)
    yield made
    made.end()


def test_pgai(db, dsn, worker, capsys):
    fill(db, ROWS)

    def pgai(url: str, batch: int, side_by_side: int) -> float:
        (number,) = db.execute(VECTORIZER, (DIMENSIONS, url, batch)).fetchone()
        seconds = worker.work(side_by_side)
        assert db.execute("SELECT count(DISTINCT id), count(embedding) FROM theirs").fetchone() == (ROWS, ROWS)
        db.execute("SELECT ai.drop_vectorizer(%s, drop_all => true)", (number,))
        return ROWS / seconds

    def evergreen(statement: str) -> float:
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute("SELECT embed_drain()")  # imports what it needs, as pgai's worker has
            db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'm')")
            seconds = timed(lambda: session.execute(statement))
        assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (ROWS,)
        db.execute("SELECT embed_drop('docs')")
        return ROWS / seconds

    with serving(DIMENSIONS) as url:
        db.execute("SELECT embed_endpoint_set('local', %s)", (f"{url}/v1",))
        db.execute("SELECT embed_model_add('m', 'openai', %s, endpoint => 'local')", (DIMENSIONS,))
        rounds = take_turns(
            {
                THEIRS: lambda: pgai(url, *AS_IT_COMES),
                THEIR_BEST: lambda: pgai(url, *BEST),
                DRAIN: lambda: evergreen(f"SELECT embed_drain(max_rows => {ROWS})"),
                WORK: lambda: evergreen("CALL embed_work(until_empty => true)"),
            },
            ROUNDS,
        )
    with capsys.disabled():
        for baseline in (THEIRS, THEIR_BEST):
            title = f"{ROWS:,} documents, {DIMENSIONS} dimensions, against {baseline}"
            report(title, "rows/s", rounds, {DRAIN: 4.0, WORK: 4.0}, baseline)
