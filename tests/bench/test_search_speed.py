"""Searches in each mode against embed() and a plain query of pgvector for the same question, one after the other.

EVERGREEN_BENCH=full takes 200,000 rows instead of 30,000.
"""

import random
import re
import statistics
import time

import psycopg
import pytest

from tests.bench.load import FULL, p50
from tests.bench.measure import report
from tests.bench.texts import fill

ROWS = 200_000 if FULL else 30_000
QUESTIONS = 60
ROUNDS = 3
MODES = ("vector", "keyword", "hybrid")
HNSW = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'embed_store' AND indexname ~ '_embedding_idx|_words_'"
PLAIN = "SELECT g.k1 FROM embed_store.g1 g JOIN docs d ON d.id = g.k1 ORDER BY g.embedding <=> %s::vector LIMIT 10"

pytestmark = pytest.mark.bench


def questions(db):
    """Sentences of the texts."""
    chance = random.Random(3)
    found: list[str] = []
    while len(found) < QUESTIONS * ROUNDS:
        (body,) = db.execute("SELECT body FROM docs WHERE id = %s", (chance.randrange(ROWS),)).fetchone()
        found += [one for one in re.split(r"(?<=[.!?])\s+", body) if 5 <= len(one.split()) <= 20][:1]
    return found


def seconds(body):
    started = time.perf_counter()
    rows = body()
    assert len(rows) > 0
    return time.perf_counter() - started


def test_search_speed(db, dsn, capsys):
    fill(db, ROWS)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    with psycopg.connect(dsn, autocommit=True) as worker:
        worker.execute("CALL embed_work(until_empty => true, max_runtime => '1 hour')")
        for statement in (
            "CREATE INDEX IF NOT EXISTS g1_embedding_idx ON embed_store.g1 USING hnsw (embedding vector_cosine_ops)",
            "CALL embed_work(until_empty => true)",
            "VACUUM ANALYZE embed_store.g1",
        ):
            worker.execute(statement)
    assert db.execute(HNSW).fetchone() == (2,)

    def plain(question):
        (vector,) = db.execute("SELECT embed(%s)::text", (f"{question} ",)).fetchone()
        return db.execute(PLAIN, (vector,)).fetchall()

    def search(question, mode):
        return db.execute("SELECT * FROM embed_search('docs', %s, mode => %s)", (question, mode)).fetchall()

    asked = questions(db)
    rounds: list[dict[str, float]] = []
    for number in range(ROUNDS):
        times = {name: [] for name in ("embed() and pgvector", *MODES)}
        for question in asked[number * QUESTIONS : (number + 1) * QUESTIONS]:
            times["embed() and pgvector"].append(seconds(lambda question=question: plain(question)))
            for mode in MODES:
                times[mode].append(seconds(lambda question=question, mode=mode: search(question, mode) or [None]))
        rounds.append({name: 1 / p50(found) for name, found in times.items()})
    with capsys.disabled():
        aims = {"hybrid": 1 / 12}
        report(f"{ROWS:,} rows, one session", "searches/s (1 / p50)", rounds, aims, "embed() and pgvector")
        print(f"  hybrid p50 {1000 / statistics.median(found['hybrid'] for found in rounds):.1f} ms")
