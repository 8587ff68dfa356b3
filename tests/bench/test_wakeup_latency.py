"""From a commit to its being searchable, at 50 writes/s: by a worker that LISTENs, and by one that polls."""

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.worker_processes import ListeningWorker

WRITES, RATE = 1000, 50
ROWS = 500
AIMS = {"evergreen worker": (30, 150), "embed_work, as pg_cron runs it": (120, None)}

pytestmark = pytest.mark.bench


@contextmanager
def listening(cluster: Cluster):
    """`evergreen worker`."""
    with ListeningWorker(cluster.dsn()) as worker:
        worker.wait_for("connected")
        yield


@contextmanager
def polling(cluster: Cluster):
    """What the job of embed_schedule runs."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as session:
        call = "CALL embed_work(max_runtime => '58 s', slot => 1)"
        threading.Thread(target=lambda: _quietly(session, call), daemon=True).start()
        yield
        session.cancel()


def _quietly(session: psycopg.Connection, call: str) -> None:
    with suppress(psycopg.errors.QueryCanceled):
        session.execute(call)


class Watch:
    """Looks for what was written until it is shown; ``lags`` are in milliseconds."""

    def __init__(self, cluster: Cluster) -> None:
        self.lags: list[float] = []
        self._written: dict[str, float] = {}
        self._guard = threading.Lock()
        self._db = psycopg.connect(cluster.dsn(), autocommit=True)
        threading.Thread(target=self._look, daemon=True).start()

    def wrote(self, text: str, at: float) -> None:
        with self._guard:
            self._written[text] = at

    def _look(self) -> None:
        while True:
            with self._guard:
                texts = list(self._written)
            if texts:
                found = self._db.execute("SELECT chunk FROM docs_embedding WHERE chunk = ANY (%s)", (texts,)).fetchall()
                now = time.perf_counter()
                with self._guard:
                    self.lags += [1000 * (now - self._written.pop(text)) for (text,) in found]
            threading.Event().wait(0.002)


def measure(cluster: Cluster, worker: Callable) -> list[float]:
    """Write at an even pace; return how long each write took to be shown."""
    watch = Watch(cluster)
    pace = threading.Event()
    with worker(cluster), psycopg.connect(cluster.dsn(), autocommit=True) as db:
        pace.wait(2)
        started = time.perf_counter()
        for number in range(WRITES):
            pace.wait(max(0.0, started + number / RATE - time.perf_counter()))
            text = f"{worker.__name__} {number}"
            db.execute("UPDATE docs SET body = %s WHERE id = %s", (text, number % ROWS), prepare=True)
            watch.wrote(text, time.perf_counter())
        until = time.monotonic() + 20
        while len(watch.lags) < WRITES and time.monotonic() < until:
            pace.wait(0.05)
    assert len(watch.lags) == WRITES
    return watch.lags


def test_commit_to_searchable(capsys):
    with Cluster(durable=True) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE; CREATE TABLE docs (id int PRIMARY KEY, body text)")
            db.execute(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(0, {ROWS - 1}) i")
            db.execute("SELECT embed_model_add('h8', 'hash', 8)")
            db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8')")
            db.execute("SELECT embed_drain()")
            # So that the watch finds a text at once.
            db.execute("CREATE INDEX ON embed_store.g1 (chunk)")
        found = {name: measure(cluster, how) for name, how in zip(AIMS, (listening, polling), strict=True)}
    with capsys.disabled():
        print(f"\ncommit to searchable at {RATE} writes/s, in process model, milliseconds")
        for name, lags in found.items():
            cuts = statistics.quantiles(lags, n=100)
            p50, p99 = AIMS[name]
            print(
                f"  {name:<34} p50 {cuts[49]:6.1f} (aim {p50})  p99 {cuts[98]:6.1f} (aim {p99 or 'none'})"
                f"  most {max(lags):6.1f}"
            )
