"""Small calls that are made all the time: embed_query in the view's ORDER BY, and embed_status."""

import time

import psycopg
import pytest

from tests.bench.load import p50
from tests.bench.measure import report, take_turns
from tests.bench.texts import fill
from tests.fixtures.roles import hash_model

ROWS = 5_000
CALLS = 100
ROUNDS = 5
PIPELINES = 10
AIM_MS = 5
NEAREST = "SELECT id FROM docs_embedding ORDER BY embedding <=> {} LIMIT 10"

pytestmark = pytest.mark.bench


def calls_per_second(db, statement):
    def run():
        times: list[float] = []
        for _ in range(CALLS):
            started = time.perf_counter()
            assert db.execute(statement).fetchall()
            times.append(time.perf_counter() - started)
        return 1 / p50(times)

    return run


def test_a_question_in_order_by(db, dsn, capsys):
    fill(db, ROWS)
    db.execute("SELECT embed_setting('index_from', '1000')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    with psycopg.connect(dsn, autocommit=True) as worker:
        for _ in range(2):
            worker.execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT indexed FROM embed_generations").fetchone() == (True,)
    (vector,) = db.execute("SELECT embed_query('docs', 'when is the bill due?')::text").fetchone()
    question = "embed_query('docs', 'when is the bill due?')"
    forms = {
        "constant": f"'{vector}'::vector",
        "embed_query(…)": question,
        "(SELECT embed_query(…))": f"(SELECT {question})",
    }
    rounds = take_turns({name: calls_per_second(db, NEAREST.format(form)) for name, form in forms.items()}, ROUNDS)
    with capsys.disabled():
        aims = {"embed_query(…)": 0.5, "(SELECT embed_query(…))": 0.5}
        report(f"{ROWS:,} rows, ORDER BY embedding <=> …", "calls/s (1 / p50)", rounds, aims, "constant")


def test_status_of_ten_pipelines(db, dsn, capsys):
    hash_model(db)
    for number in range(PIPELINES):
        db.execute(f"CREATE TABLE t{number} (id int PRIMARY KEY, body text)")
        db.execute(f"INSERT INTO t{number} SELECT i, 'text ' || i FROM generate_series(1, 300) i")
        db.execute(f"SELECT embed_create('t{number}', 't{number}', columns => '{{body}}', model => 'hash8')")
    with psycopg.connect(dsn, autocommit=True) as worker:
        worker.execute("CALL embed_work(until_empty => true)")
    db.execute("VACUUM ANALYZE")
    run = calls_per_second(db, "SELECT * FROM embed_status")
    run()
    with capsys.disabled():
        print(f"\nembed_status of {PIPELINES} pipelines, p50: {1000 / run():.1f} ms, aim {AIM_MS}")
