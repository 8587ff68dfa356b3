"""The built-in model through a drain, against the same model called in a plain Python loop."""

from pathlib import Path

import psycopg
import pytest
import wordllama

from tests.bench.measure import report, take_turns, timed
from tests.bench.texts import documents, fill

ROWS = 10_000
BATCH = 64
ROUNDS = 3

pytestmark = pytest.mark.bench


def test_built_in_model(db, dsn, capsys):
    texts = documents(ROWS)
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True, trunc_dim=256)
    fill(db, ROWS)

    def loop() -> float:
        def embed() -> None:
            for start in range(0, ROWS, BATCH):
                vectors = model.embed(texts[start : start + BATCH], norm=True, batch_size=BATCH)
                assert vectors.shape[1] == 256

        return ROWS / timed(embed)

    def evergreen(statement: str) -> float:
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
        with psycopg.connect(dsn, autocommit=True) as worker:
            worker.execute("SELECT embed('loads the model')")
            seconds = timed(lambda: worker.execute(statement))
        assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (ROWS,)
        db.execute("SELECT embed_drop('docs')")
        return ROWS / seconds

    rounds = take_turns(
        {
            "plain Python loop": loop,
            "embed_drain()": lambda: evergreen(f"SELECT embed_drain(max_rows => {ROWS})"),
            "CALL embed_work()": lambda: evergreen("CALL embed_work(until_empty => true)"),
        },
        ROUNDS,
    )
    aims = {"embed_drain()": 0.8, "CALL embed_work()": 0.8}
    with capsys.disabled():
        report(f"{ROWS:,} documents, wordllama-256", "rows/s", rounds, aims, "plain Python loop")
