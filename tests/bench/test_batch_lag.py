"""How long live edits take to become searchable while history goes through a batch API, and without."""

import multiprocessing
import queue
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count
from statistics import median, quantiles

import psycopg
import pytest

from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.waiting import wait_until
from tests.integration.batches.lane import HURRY, create, fill

pytestmark = pytest.mark.bench

ROWS = 20_000
ROUNDS = 3
ALL_FRESH = {
    "requests": f"SELECT count(*) = {ROWS} FROM docs_embedding",
    "batch": "SELECT EXISTS (SELECT FROM embed.batch) AND NOT EXISTS (SELECT FROM embed.batch WHERE NOT is_clean)",
}


def work(dsn, ended):
    """Work as a scheduled worker does."""
    with psycopg.connect(dsn, autocommit=True) as worker:
        while not ended.is_set():
            worker.execute("CALL embed_work(max_runtime => '1 s')")
            worker.execute(HURRY)


def edit(dsn, ended, lags):
    """Put the seconds from the commit of single edits until they are searchable into a queue."""
    with psycopg.connect(dsn, autocommit=True) as db:
        for number in count():
            if ended.is_set():
                return
            key = number % 1000 + 1
            started = time.perf_counter()
            db.execute("UPDATE other SET body = 'live ' || clock_timestamp() WHERE id = %s", (key,))
            assert db.execute("SELECT embed_wait('other', %s::jsonb, '60 s')", (f"[{key}]",)).fetchone() == (True,)
            lags.put(time.perf_counter() - started)


@contextmanager
def edits(dsn):
    """Edit rows while the block runs, in a process of its own: the provider is busy in this one; yields the lags."""
    spawn = multiprocessing.get_context("spawn")
    ended, lags, found = spawn.Event(), spawn.Queue(), []
    editor = spawn.Process(target=edit, args=(dsn, ended, lags))
    editor.start()
    try:
        yield found
    finally:
        ended.set()
        while editor.is_alive() or not lags.empty():
            with suppress(queue.Empty):
                found.append(lags.get(timeout=0.1))


def p99(found):
    return quantiles(found, n=100)[98]


def test_live_edits_beside_a_batch(connect, db, docs, dsn):
    with SERVERS["openai"]() as api:
        api.register(db)
        db.execute("CREATE TABLE other (LIKE docs INCLUDING ALL)")
        fill(db, 1000, "other")
        create(db, "other", backfill_via="requests")
        ended = threading.Event()
        worker = threading.Thread(target=work, args=(dsn, ended))
        worker.start()
        try:
            db.execute("SELECT embed_wait('other', timeout => '60 s')")
            lags = {"no history": [], "history by requests": [], "history by batch": []}
            for number in range(ROUNDS):
                with edits(dsn) as found:
                    time.sleep(5)
                lags["no history"] += found
                for via in ("requests", "batch"):
                    fill(db, ROWS)
                    db.execute("UPDATE docs SET body = %s || body", (f"{via}, round {number}: ",))
                    create(db, backfill_via=via, batch_min_texts=1000)
                    with edits(dsn) as found:
                        wait_until(lambda via=via: db.execute(ALL_FRESH[via]).fetchone()[0], timeout=120)
                    lags[f"history by {via}"] += found
                    db.execute("SELECT embed_drop('docs'); DELETE FROM embed.batch")
        finally:
            ended.set()
            worker.join()
        print(f"\nlag of live edits beside a history of {ROWS:,} texts")
        for beside, found in lags.items():
            print(f"  {beside:20}", end="")
            for name, figure in (("p50", median), ("p99", p99)):
                ratio = figure(found) / figure(lags["no history"])
                print(f"  {name} {1000 * figure(found):4.0f} ms, {ratio:.1f} times", end="")
            print()
