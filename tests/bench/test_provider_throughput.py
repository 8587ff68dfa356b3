"""Models behind HTTP: workers side by side against as many straight-line scripts.

A model that answers at once shows what is ours. One that takes 200 ms, and serves only so many requests side by side,
has a limit of its own: seats, times texts a request, by latency. To come near it is to keep every seat taken. A script
waits for each answer before it sends again, so it takes one seat. Those cases have rows for some eight seconds, because
the first and the last requests do not fill the seats.
"""

import pytest

from tests.bench.contenders import Bench, Case, processes, register
from tests.bench.measure import report, take_turns
from tests.bench.model_server import serving
from tests.bench.texts import fill

SCRIPT, LIMIT, DRAIN, WORK = "queue-less scripts", "the provider's limit", "embed_drain()", "CALL embed_work()"

pytestmark = pytest.mark.bench

CASES = [
    Case(256, 0, 1, 10_000, 1000, 5),
    Case(256, 0, 4, 20_000, 1000, 3),
    Case(1536, 0, 1, 4_000, 1000, 5),
    Case(1536, 0, 4, 8_000, 1000, 3),
    Case(256, 200, 1, 8_000, 50, 1),
    Case(256, 200, 4, 24_000, 50, 1),
    Case(1536, 200, 1, 8_000, 50, 1),
    Case(1536, 200, 4, 24_000, 50, 1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_providers(db, dsn, case, capsys):
    fill(db, case.rows)
    with serving(case.dimensions, case.milliseconds, case.seats) as server, processes(case.workers) as scripts:
        url = register(db, server, case)
        bench = Bench(db, dsn, case, scripts)
        contenders = {
            SCRIPT: lambda: bench.scripts(url),
            WORK: lambda: bench.evergreen("CALL embed_work(until_empty => true)"),
        }
        if case.workers == 1:
            contenders[DRAIN] = lambda: bench.evergreen(f"SELECT embed_drain(max_rows => {case.rows})")
        if case.milliseconds:
            contenders[LIMIT] = bench.limit
        rounds = take_turns(contenders, case.rounds)
    with capsys.disabled():
        aims = dict.fromkeys((WORK, DRAIN), 0.9 if case.milliseconds else 0.75)
        report(f"{case.rows:,} documents, {case}", "rows/s", rounds, aims, LIMIT if case.milliseconds else SCRIPT)
