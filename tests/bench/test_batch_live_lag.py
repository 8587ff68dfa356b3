"""From a commit to its being searchable: with history under way by batch, by requests, and without any, in turn."""

import random
import statistics
import threading
import time
from collections import defaultdict

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.bench.watch import Watch
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.worker_processes import ListeningWorker
from tests.integration.batches.lane import HURRY, create, fill, state

ROWS, RATE, ROUNDS, AT_THE_PROVIDER = 5_000, 20, 2, 300

pytestmark = pytest.mark.bench


class History:
    """A table whose rows are history, by batch or by requests, and edits at an even pace, each of another row."""

    def __init__(self, cluster, db, table, via):
        self.table, self._cluster, self._db = table, cluster, db
        self._rows = iter(random.Random(table).sample(range(1, ROWS + 1), ROWS))
        db.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, title text, body text)")
        fill(db, ROWS, table)
        db.execute(f"UPDATE {table} SET title = '{table}'")
        create(db, table, batch_min_texts=1000, backfill_via=via)
        found = "SELECT generation FROM embed_generations WHERE pipeline = %s"
        (generation,) = db.execute(found, (table,)).fetchone()
        db.execute(f"CREATE INDEX ON embed_store.g{generation} (chunk)")  # so that the watch finds a text at once

    def edit(self, goes_on):
        """Edit for as long as ``goes_on(edits)``; return how long each took to be shown."""
        watch, pace, edits = Watch(self._cluster.dsn(), f"{self.table}_embedding"), threading.Event(), 0
        started = time.perf_counter()
        while goes_on(edits):
            pace.wait(max(0.0, started + edits / RATE - time.perf_counter()))
            body, row = f"edit {time.monotonic_ns()}", next(self._rows)
            self._db.execute(f"UPDATE {self.table} SET body = %s WHERE id = %s", (body, row), prepare=True)
            watch.wrote(f"{self.table}\n\n{body}", time.perf_counter())
            edits += 1
        until = time.monotonic() + 60
        while len(watch.lags) < edits and time.monotonic() < until:
            pace.wait(0.05)
        assert len(watch.lags) == edits
        return watch.lags

    def is_queued(self):
        """Whether rows of history are still to be written."""
        rows = "SELECT EXISTS (SELECT FROM embed.job WHERE lane = 1)"
        scan = "SELECT EXISTS (SELECT FROM embed.backfill_cursor WHERE running)"
        return any(self._db.execute(query).fetchone() == (True,) for query in (rows, scan))

    def is_sent(self):
        """Whether the provider has the batch, which is hurried on."""
        self._db.execute(HURRY)
        query = "SELECT EXISTS (SELECT FROM embed_batches WHERE pipeline = %s AND submitted_at IS NOT NULL)"
        return self._db.execute(query, (self.table,)).fetchone() == (True,)

    def is_back(self):
        """Whether the batch has ended and its rows are written."""
        self._db.execute(HURRY)
        return state(self._db) == "done" and not self.is_queued()


def one_round(cluster, db, api, number):
    """Return lags by what was under way."""
    found = {}
    batch = History(cluster, db, f"batch{number}", "batch")
    api.auto = False
    found["a batch is filled and sent"] = batch.edit(lambda _: not batch.is_sent())
    found["a batch is at the provider"] = batch.edit(lambda edits: edits < AT_THE_PROVIDER)
    api.finish()
    api.auto = True
    found["its results are read and written"] = batch.edit(lambda _: not batch.is_back())
    found["nothing"] = batch.edit(lambda edits: edits < AT_THE_PROVIDER)
    assert_as_source(db, batch.table)
    requests = History(cluster, db, f"requests{number}", "requests")
    found["history by requests"] = requests.edit(lambda _: requests.is_queued())
    return found


def test_the_lag_of_live_edits(capsys):
    lags = defaultdict(list)
    with (
        Cluster(durable=True) as cluster,
        SERVERS["openai"]() as api,
        psycopg.connect(cluster.dsn(), autocommit=True) as db,
    ):
        db.execute("CREATE EXTENSION evergreen CASCADE")
        api.register(db, price=1)
        with ListeningWorker(cluster.dsn()) as worker:
            worker.wait_for("connected")
            for number in range(ROUNDS):
                for what, found in one_round(cluster, db, api, number).items():
                    lags[what] += found
    with capsys.disabled():
        print(f"\ncommit to searchable at {RATE} edits/s, {ROWS} rows of history, milliseconds, and ratios to nothing")
        quantiles = {what: statistics.quantiles(found, n=100) for what, found in lags.items()}
        for what, cuts in sorted(quantiles.items(), key=lambda item: item[0] != "nothing"):
            p50, p99 = cuts[49], cuts[98]
            ratios = f"{p50 / quantiles['nothing'][49]:5.2f} {p99 / quantiles['nothing'][98]:5.2f}"
            print(f"  {what:<34} p50 {p50:7.1f}  p99 {p99:7.1f}  {ratios}  {len(lags[what])} edits")
