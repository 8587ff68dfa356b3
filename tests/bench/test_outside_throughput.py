"""Claim and submit from a client against the worker inside: what the way out and back costs, with a free model."""

import psycopg
import pytest

from tests.bench.hashing import DIMENSIONS, hash_vectors
from tests.bench.measure import report, take_turns, timed
from tests.bench.texts import fill

ROWS = 20_000
ROUNDS = 3

pytestmark = pytest.mark.bench


def outside(session, batch: int) -> None:
    """The loop of docs/how-to/compute-outside.md."""
    query = "SELECT token, text, hash FROM embed_claim('docs', %s)"
    while rows := session.execute(query, (batch,)).fetchall():
        vectors = [str(vector.tolist()) for vector in hash_vectors([row[1] for row in rows])]
        given = (rows[0][0], [row[2] for row in rows], vectors)
        session.execute("SELECT embed_submit('docs', %s, %s, %s::text[]::vector[])", given)


def test_outside_throughput(db, dsn, capsys):
    fill(db, ROWS)
    db.execute("SELECT embed_model_add('m', 'hash', %s)", (DIMENSIONS,))

    def measured(work) -> float:
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'm')")
        with psycopg.connect(dsn, autocommit=True) as session:
            seconds = timed(lambda: work(session))
        assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (ROWS,)
        db.execute("SELECT embed_drop('docs')")
        return ROWS / seconds

    rounds = take_turns(
        {
            "CALL embed_work()": lambda: measured(lambda s: s.execute("CALL embed_work(until_empty => true)")),
            "claim and submit, 1000 rows": lambda: measured(lambda s: outside(s, 1000)),
            "claim and submit, 100 rows": lambda: measured(lambda s: outside(s, 100)),
        },
        ROUNDS,
    )
    with capsys.disabled():
        report(f"{ROWS:,} documents, hash-{DIMENSIONS}", "rows/s", rounds, {}, "CALL embed_work()")
