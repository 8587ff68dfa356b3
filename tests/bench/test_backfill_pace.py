"""A backfill of many short rows: its pace from first to last, the worker's memory, and what live changes notice."""

import itertools
import re
import time
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.load import FULL, lags, make_docs, p50, p99
from tests.bench.measure import timed
from tests.fixtures.waiting import Background, wait_until

ROWS = 1_000_000 if FULL else 200_000
LIVE = 1000  # rows at the end of the table, which are edited one after the other
SAMPLES = 300

pytestmark = pytest.mark.bench

CREATE = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8', backfill => %s)"
FOREVER = "CALL embed_work(max_runtime => '1 day')"


@pytest.fixture
def server():
    with Cluster(options={"max_wal_size": "4GB"}) as made, psycopg.connect(made.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("SELECT embed_model_add('h8', 'hash', 8)")
        make_docs(db, ROWS + LIVE)
        yield made


def session(server):
    return psycopg.connect(server.dsn(), autocommit=True)


def anonymous(pid):
    """Megabytes of a process that are its own."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1000


class Watch:
    """How far the backfill is, and how large its worker, several times a second."""

    def __init__(self, db, pid):
        self.seen = []
        self._db, self._pid = db, pid

    def look(self):
        visited, running = self._db.execute(
            "SELECT visited, running FROM embed.backfill_cursor WHERE generation = 1 AND scope = 'source'"
        ).fetchone()
        self.seen.append((time.monotonic(), visited, anonymous(self._pid)))
        return not running

    def paces(self):
        """Rows a second in each tenth of the way."""
        total = self.seen[-1][1]
        marks = [next(at for at, visited, _ in self.seen if visited >= total * n / 10) for n in range(11)]
        return [total / 10 / max(1e-6, after - before) for before, after in itertools.pairwise(marks)]


def test_pace_and_memory(server, capsys):
    db, worker = session(server), session(server)
    creating = timed(lambda: db.execute(CREATE, (True,)))
    work = Background(worker, "CALL embed_work(until_empty => true, max_runtime => '1 day')")
    watch = Watch(session(server), worker.info.backend_pid)
    wait_until(watch.look, 3600, "the backfill")
    work.result(600)
    assert db.execute("SELECT backfill_progress FROM embed_status").fetchone() == (1.0,)
    assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (ROWS + LIVE,)
    paces = watch.paces()
    sizes = [size for _, visited, size in watch.seen if visited > ROWS / 10]
    with capsys.disabled():
        print(f"\nbackfill of {ROWS:,} rows; embed_create took {1000 * creating:.0f} ms")
        print(f"  rows/s by tenths of the way: {[round(pace) for pace in paces]}")
        print(f"  last tenth against the first: {paces[-1] / paces[0]:.2f} (aim about 1)")
        print(f"  the worker's own memory: {sizes[0]:.0f} MB at a tenth, at most {max(sizes):.0f} MB")


def test_live_lag_beside_it(server, capsys):
    """The same edits at the same pace, with nothing else to do, and while the backfill runs."""
    db, worker = session(server), session(server)
    db.execute(CREATE, (False,))
    Background(worker, FOREVER)
    writer, reader = session(server), session(server)
    live = range(ROWS, ROWS + SAMPLES)
    lags(writer, reader, live[:20])
    idle = lags(writer, reader, live)
    db.execute("SELECT embed_backfill('docs')")
    begun = "SELECT visited > 0 FROM embed.backfill_cursor WHERE scope = 'source'"
    wait_until(lambda: db.execute(begun).fetchone()[0], 60, "a start")

    def is_over():
        return not db.execute("SELECT running FROM embed.backfill_cursor WHERE scope = 'source'").fetchone()[0]

    beside = lags(writer, reader, live, stop=is_over)
    worker.cancel()
    assert len(beside) >= 50
    with capsys.disabled():
        print(f"\nlag from commit to view, one change after the other ({len(idle)} and {len(beside)} changes)")
        for name, found in (("idle", idle), ("beside a backfill", beside)):
            print(f"  {name:<18} p50 {1000 * p50(found):>7.1f} ms, p99 {1000 * p99(found):>7.1f} ms")
        print(f"  ratios: p50 {p50(beside) / p50(idle):.2f}, p99 {p99(beside) / p99(idle):.2f} (aim 3)")
