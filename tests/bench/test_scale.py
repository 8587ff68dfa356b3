"""A table of many short texts: the backfill from first to last, and what every call costs once all rows are embedded.

`pytest -m bench tests/bench/test_scale.py --rows 10000000` takes an hour and 15 GB of disk on two cores.
"""

import itertools
import os
import re
import time
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.load import TimedWorker, lags, p50, p99
from tests.bench.measure import timed
from tests.fixtures.waiting import Background, wait_until

DIMENSIONS = 64
LIVE = 200  # rows at the end of the table, edited one after the other
PROBES = 20
TENTH_AIM = 0.9
CLOCK, PROCESSOR = 0, 3  # of Scale.seen

pytestmark = pytest.mark.bench

OPTIONS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "maintenance_work_mem": "1GB"}
FILL = """
INSERT INTO docs
SELECT i, concat_ws(' ', 'row', i, md5(i::text), md5((-i)::text), 'of many short texts') FROM generate_series(1, %s) i
"""
LEFT = "SELECT count(*) FROM embed.job"
CURSOR = "SELECT visited, running FROM embed.backfill_cursor WHERE scope = 'source'"
TABLES = {
    "source": "SELECT pg_total_relation_size('docs')",
    "documents": "SELECT pg_total_relation_size('embed.document')",
    "chunks": "SELECT pg_total_relation_size('embed_store.g1')",
    "jobs": "SELECT pg_total_relation_size('embed.job')",
}


class Scale:
    """A server whose table has been embedded, watched meanwhile."""

    def __init__(self, server, rows, say):
        self._server, self.rows, self.say = server, rows, say
        self.db = self.session()
        self.seen = []

    def session(self):
        return psycopg.connect(self._server.dsn(), autocommit=True)

    def prepare(self):
        self.db.execute("CREATE EXTENSION evergreen CASCADE")
        self.db.execute("SELECT embed_model_add('h', 'hash', %s)", (DIMENSIONS,))
        # Indexes are built when the test asks for them.
        self.db.execute("SELECT embed_setting('index_from', '2000000000')")
        self.db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text NOT NULL)")
        self.db.execute(FILL, (self.rows,))
        self.db.execute("VACUUM ANALYZE docs")

    def look(self, pid):
        """Note how far the backfill is and how large its worker; return whether it is over."""
        ((visited, running),) = self.db.execute(CURSOR).fetchall()
        tenth = self.seen[-1][1] * 10 // self.rows if self.seen else 0
        self.seen.append((time.monotonic(), visited, private_memory(pid), processor_seconds(pid)))
        if visited * 10 // self.rows > tenth:
            self.say(
                f"  {visited:>12,} rows after {self.seen[-1][0] - self.seen[0][0]:,.0f} s, {self.seen[-1][2]:.0f} MB"
            )
        return not running

    def paces(self, clock):
        """Rows a second in each tenth of the way; ``clock``: the column of ``seen`` with the seconds."""
        marks = [next(one[clock] for one in self.seen if one[1] >= self.rows * n / 10) for n in range(11)]
        return [self.rows / 10 / max(1e-6, after - before) for before, after in itertools.pairwise(marks)]


def private_memory(pid):
    """Megabytes of a process that are its own."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1000


def processor_seconds(pid):
    """How long a process has run on a processor: other load on the machine does not count."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def scale(request):
    rows = int(request.config.getoption("--rows"))
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line):
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    with Cluster(options=OPTIONS) as server:
        made = Scale(server, rows, say)
        made.prepare()
        yield made
        made.db.close()


def test_backfill(scale):
    """Its pace and memory, and the lag of live changes meanwhile."""
    worker, writer, reader = scale.session(), scale.session(), scale.session()
    scale.say(f"\nbackfill of {scale.rows:,} rows, {DIMENSIONS} dimensions")
    creating = timed(lambda: scale.db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h')"))
    work = Background(
        worker, "CALL embed_work(max_runtime => '1 day')"
    )  # not until_empty: live changes come to the end
    lag = []

    def look():
        if scale.seen and len(lag) < LIVE:
            lag.extend(lags(writer, reader, range(scale.rows - len(lag), scale.rows - len(lag) + 1)))
        return scale.look(worker.info.backend_pid)

    wait_until(look, 7200, "the backfill")
    wait_until(lambda: scale.db.execute(LEFT).fetchone() == (0,), 600, "an empty queue")
    scale.db.execute("SELECT pg_cancel_backend(%s)", (worker.info.backend_pid,))
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    paces, processor = scale.paces(0), scale.paces(3)
    sizes = [size for _, visited, size, _ in scale.seen if visited > scale.rows / 10]
    scale.say(
        f"  embed_create {1000 * creating:.0f} ms; rows/s by tenths of the way: {[round(pace) for pace in paces]}"
    )
    kept = processor[-1] / processor[0]
    scale.say(
        f"  last tenth against the first: {paces[-1] / paces[0]:.2f}, by the processor {kept:.2f} (aim {TENTH_AIM})"
    )
    scale.say(f"  the worker's own memory: {sizes[0]:.0f} MB at a tenth, at most {max(sizes):.0f} MB")
    scale.say(f"  a live change meanwhile: p50 {1000 * p50(lag):.0f} ms, p99 {1000 * p99(lag):.0f} ms of {len(lag)}")
    assert scale.db.execute("SELECT count(*) FROM embed.document").fetchone() == (scale.rows,)


def test_calls_afterwards(scale):
    """What operators and workers ask all the time, and one check of everything."""
    sizes = {name: int(scale.db.execute(query).fetchone()[0]) for name, query in TABLES.items()}
    told = ", ".join(f"{name} {size / scale.rows:,.0f}" for name, size in sizes.items())
    scale.say(f"\ndisk without indexes of vectors and words, bytes a row: {told}")
    status = [timed(lambda: scale.db.execute("SELECT * FROM embed_status").fetchall()) for _ in range(PROBES)]
    scale.say(f"  embed_status {1000 * p50(status):.1f} ms, at most {1000 * max(status):.1f}")
    worker, spent = TimedWorker(scale.session()), []
    for number in range(PROBES):
        scale.db.execute("UPDATE docs SET body = body || '.' WHERE id = %s", (1 + number,))
        worker.start(60, until_empty=True)
        spent = worker.spent()
    claims = [seconds for name, _, seconds, _ in spent if name == "claim"]
    scale.say(f"  a claim {1000 * p50(claims):.1f} ms, at most {1000 * max(claims):.1f} of {len(claims)}")
    assert len(claims) >= PROBES
    found = {}
    took = timed(lambda: found.update(scale.db.execute("SELECT * FROM embed_verify('docs')").fetchall()))
    scale.say(f"  embed_verify {scale.rows / took:,.0f} rows/s")
    assert found["fresh"] == scale.rows, found


def test_search_with_an_index(scale):
    """The index is built as embed_generations would have it; then searches for texts that are there."""
    statement = scale.db.execute("SELECT embed.index_statement(1)").fetchone()[0]
    building = timed(lambda: scale.db.execute(statement))
    size = scale.db.execute("SELECT pg_relation_size('embed_store.g1_embedding_idx')").fetchone()[0]
    scale.say(f"\nHNSW index built in {building:,.0f} s, {size / scale.rows:,.0f} bytes a row")
    times, hits = [], 0
    for number in range(1, scale.rows, max(1, scale.rows // 100)):
        text = scale.db.execute("SELECT body FROM docs WHERE id = %s", (number,)).fetchone()[0]
        started = time.perf_counter()
        found = scale.db.execute("SELECT chunk FROM embed_search('docs', %s)", (text,)).fetchall()
        times.append(time.perf_counter() - started)
        hits += (text,) in found
    scale.say(
        f"  embed_search p50 {1000 * p50(times):.1f} ms, p99 {1000 * p99(times):.1f}; {hits} of {len(times)} found"
    )
    assert hits > len(times) / 2
