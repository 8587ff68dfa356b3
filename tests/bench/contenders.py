"""Who is measured behind HTTP: scripts in processes of their own, and workers and drains of Evergreen."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import orjson
import psycopg

from tests.bench import script
from tests.bench.measure import timed
from tests.bench.model_server import number, vectors

IN_FLIGHT = 4  # requests that a worker has under way


@dataclass(frozen=True)
class Case:
    """What is measured. ``batch``: texts a request."""

    dimensions: int
    milliseconds: int
    workers: int
    rows: int
    batch: int
    rounds: int

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{self.dimensions} dimensions, {self.milliseconds} ms, {workers}"

    @property
    def seats(self) -> int:
        """How many requests the provider serves side by side."""
        return IN_FLIGHT * self.workers


class Bench:
    """The contenders of one case; each returns rows a second."""

    def __init__(self, db: psycopg.Connection[Any], dsn: str, case: Case, processes: ProcessPoolExecutor) -> None:
        self._db = db
        self._dsn = dsn
        self._case = case
        self._processes = processes
        self._pool = vectors(case.dimensions)

    def limit(self) -> float:
        """What the provider can do at most."""
        return self._case.seats * self._case.batch * 1000 / self._case.milliseconds

    def scripts(self, url: str) -> float:
        """Scripts in processes of their own, each with its part of the rows."""
        case = self._case
        self._db.execute(script.create_table(case.dimensions))

        def run() -> None:
            parts = [(self._dsn, url, case.batch, part, case.workers) for part in range(case.workers)]
            list(self._processes.map(script.run_over_http, *zip(*parts, strict=True)))

        seconds = timed(run)
        self._check("plain", "true")
        self._db.execute("DROP TABLE plain")
        return case.rows / seconds

    def evergreen(self, statement: str) -> float:
        """The statement in as many sessions as there are workers."""
        sessions = [psycopg.connect(self._dsn, autocommit=True) for _ in range(self._case.workers)]
        for session in sessions:
            session.execute("SELECT embed_drain(), embed('text', 'm')")  # imports what the scripts' processes have
        self._db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'm')")
        with ThreadPoolExecutor(self._case.workers) as threads:
            seconds = timed(lambda: list(threads.map(lambda session: session.execute(statement), sessions)))
        for session in sessions:
            session.close()
        self._check("docs_embedding", "NOT is_stale")
        self._db.execute("SELECT embed_drop('docs')")
        return self._case.rows / seconds

    def _check(self, table: str, condition: str) -> None:
        """The work was done: all rows are there, and some of them, looked at, with the vectors of their texts."""
        counted = self._db.execute(f"SELECT count(embedding) FROM {table} WHERE {condition}").fetchone()
        assert counted == (self._case.rows,)
        for text, found in self._db.execute(f"SELECT chunk, embedding::text FROM {table} WHERE id % 500 = 0"):
            assert np.array_equal(self._pool[number(text)], np.array(orjson.loads(found), dtype=np.float32))


def register(db: psycopg.Connection[Any], server: str, case: Case) -> str:
    """Register model m, served at an address; return the URL that scripts call."""
    options = {"inputs": case.batch} if case.milliseconds else {}  # at once: as many as Evergreen thinks right
    endpoint = orjson.dumps({"max_in_flight": IN_FLIGHT}).decode()
    db.execute("SELECT embed_endpoint_set('local', %s, options => %s)", (f"{server}/v1", endpoint))
    db.execute(
        "SELECT embed_model_add('m', 'openai', %s, endpoint => 'local', options => %s)",
        (case.dimensions, orjson.dumps(options).decode()),
    )
    return f"{server}/v1"


def _meet(barrier: Any) -> None:
    barrier.wait(60)


@contextmanager
def processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that have started and imported what they need."""
    context = get_context("spawn")
    barrier = context.Barrier(number)
    with ProcessPoolExecutor(number, context, _meet, (barrier,)) as made:
        for started in [made.submit(abs, 0) for _ in range(number)]:
            started.result()
        yield made
