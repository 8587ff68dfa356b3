"""Drain against a straight-line script: what queue, fingerprints, leases and chunk matching cost.

The model runs inside the process and costs next to nothing, and so shows every microsecond of ours; for models behind
HTTP see test_provider_throughput.py.
"""

import psycopg
import pytest

from tests.bench import script
from tests.bench.hashing import DIMENSIONS, hash_vectors
from tests.bench.measure import report, take_turns, timed
from tests.bench.texts import fill

ROWS = 20_000
BATCH = 1000
ROUNDS = 3

pytestmark = pytest.mark.bench


def test_drain_throughput(db, dsn, capsys):
    fill(db, ROWS)
    db.execute("SELECT embed_model_add('m', 'hash', %s)", (DIMENSIONS,))

    def plain() -> float:
        db.execute(script.create_table(DIMENSIONS))
        seconds = timed(lambda: script.run(dsn, hash_vectors, BATCH))
        assert db.execute("SELECT count(embedding) FROM plain").fetchone() == (ROWS,)
        db.execute("DROP TABLE plain")
        return ROWS / seconds

    def evergreen(statement: str) -> float:
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'm')")
        with psycopg.connect(dsn, autocommit=True) as worker:
            seconds = timed(lambda: worker.execute(statement))
        assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (ROWS,)
        db.execute("SELECT embed_drop('docs')")
        return ROWS / seconds

    rounds = take_turns(
        {
            "queue-less script": plain,
            "embed_drain()": lambda: evergreen(f"SELECT embed_drain(max_rows => {ROWS})"),
            "CALL embed_work()": lambda: evergreen("CALL embed_work(until_empty => true)"),
        },
        ROUNDS,
    )
    aims = {"embed_drain()": 0.75, "CALL embed_work()": 0.75}
    with capsys.disabled():
        report(f"{ROWS:,} documents, hash-{DIMENSIONS} in process", "rows/s", rounds, aims, "queue-less script")
