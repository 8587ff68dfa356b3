"""`kill -9` of workers with a batch at the provider: the server restarts, and no text in it is paid for twice."""

import contextlib
import os
import random
import signal
import threading
import time
from itertools import count

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.endings import after_crash
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.stress import seed_of
from tests.integration.batches.lane import HURRY, batches, create, fill, through

pytestmark = pytest.mark.stress

ROWS, WORKERS = 3_000, 2
#: Each is under way, or just answered, when a process is killed.
CALLS = ("upload", "create", "get", "content", "content", "delete")


@pytest.fixture(scope="module")
def mortal():
    """A server of this file's own: a killed process takes all sessions with it."""
    with Cluster() as made, psycopg.connect(made.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        yield made


class Workers:
    """Sessions that work, and connect again after each crash."""

    def __init__(self, dsn):
        self._dsn = dsn
        self._over = threading.Event()
        self.pids = {}
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(WORKERS)]

    def _work(self, number):
        while not self._over.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as session:
                self.pids[number] = session.info.backend_pid
                while not self._over.is_set():
                    session.execute("CALL embed_work(until_empty => true, max_runtime => '5 s')")
            self.pids.pop(number, None)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def is_over(db):
    """Whether nothing is left to do at the provider."""
    return db.execute("SELECT bool_and(is_clean) FROM embed.batch").fetchone() == (True,)


def edit_until(db, is_due, edits):
    """Edit rows and hurry the batch until ``is_due()`` or the batch is over; return the texts of the edits."""
    pause, texts, until = threading.Event(), set(), time.monotonic() + 60
    while not (is_due() or is_over(db)):
        assert time.monotonic() < until, batches(db)
        number = next(edits)
        db.execute(HURRY)
        db.execute("UPDATE docs SET body = %s WHERE id = %s", (f"edit {number}", 1 + 7 * number % ROWS))
        texts.add(f"title\n\nedit {number}")
        pause.wait(0.02)
    return texts


def kill(workers, chance):
    """Kill a worker's process within 0.1 s."""
    pause = threading.Event()
    pause.wait(0.1 * chance.random())
    while True:
        with contextlib.suppress(IndexError, ProcessLookupError):
            os.kill(chance.choice([*workers.pids.values()]), signal.SIGKILL)
            return
        pause.wait(0.02)


@pytest.mark.parametrize("format_", SERVERS)
def test_killed_workers_pay_for_no_text_of_a_batch_twice(mortal, format_):
    chance, edits, edited = random.Random(seed_of(format_)), count(), set()
    db = psycopg.connect(mortal.dsn(), autocommit=True)
    with SERVERS[format_]() as api:
        api.register(db, format_, price=1)
        fill(db, ROWS)
        create(db, model=format_)
        with Workers(mortal.dsn()) as workers:
            for number, kind in enumerate(CALLS):
                api.fault.lose[kind] = chance.randrange(2)
                wanted = CALLS[: number + 1].count(kind)
                edited |= edit_until(db, lambda k=kind, n=wanted: api.counts[k] >= n, edits)
                kill(workers, chance)
                db = after_crash(mortal, db)
        api.fault.lose.clear()
        through(db, psycopg.connect(mortal.dsn(), autocommit=True), timeout=120)
        assert_as_source(db)
        print(format_, dict(api.counts), batches(db), len(api.sent), len(api.paid_twice))
        assert {text for _, text in api.paid_twice} <= edited
        assert api.files == {}
        for table in ("batch_text", "in_flight", "job"):
            assert db.execute(f"SELECT count(*) FROM embed.{table}").fetchone() == (0,), table
        db.execute("SELECT embed_drop('docs')")
        db.execute("DELETE FROM embed.batch")
