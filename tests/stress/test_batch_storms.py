"""Storms over each batch API: lost answers, refusals, broken downloads, failing lines, killed workers, live edits."""

import contextlib
import random
import threading
import time

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.providers.batches.remote import Refusal
from tests.integration.batches.lane import HURRY, batches, create, fill, through

pytestmark = pytest.mark.stress

KINDS = ("upload", "files", "create", "list", "get", "content", "cancel", "delete")
SECONDS = 20.0
ROWS = 20_000


@pytest.fixture
def api(request):
    with SERVERS[request.param]() as made:
        yield made


class Storm:
    """Two workers whose sessions are ended at random while the provider fails at random."""

    def __init__(self, dsn, api, seed):
        self.dsn, self.api, self.random = dsn, api, random.Random(seed)
        self.over = threading.Event()
        self.kills = 0
        self.edited = []
        self.pids = {}

    def work(self, name):
        while not self.over.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.dsn, autocommit=True) as worker:
                self.pids[name] = worker.info.backend_pid
                while not self.over.is_set():
                    worker.execute("CALL embed_work(until_empty => true, max_runtime => '5 s')")

    def fault(self):
        """One fault, now and then; all mend themselves."""
        kind, fault = self.random.choice(KINDS), self.api.fault
        choice = self.random.randrange(4)
        if choice == 0:
            fault.lose[self.random.choice(("upload", "create", "get", "content", "cancel", "delete"))] += 1
        elif choice == 1:
            fault.refuse.setdefault(kind, []).append(Refusal(self.random.choice((429, 500, 503))))
        elif choice == 2:
            fault.truncate = self.random.choice((None, None, 0.3, 0.9))
        else:
            fault.backwards = not fault.backwards

    def mend(self):
        """No more faults, but for the lines that fail."""
        self.api.fault.truncate = None
        self.api.fault.lose.clear()
        self.api.fault.refuse.clear()

    def run(self, seconds, rows=ROWS):
        """Let it rage; return the texts of the edits."""
        self.over.clear()
        self.pids.clear()
        workers = [threading.Thread(target=self.work, args=(n,)) for n in range(2)]
        for worker in workers:
            worker.start()
        edited, until = set(), time.monotonic() + seconds
        with psycopg.connect(self.dsn, autocommit=True) as db:
            while time.monotonic() < until:
                self.over.wait(self.random.uniform(0.1, 0.6))
                self.fault()
                db.execute(HURRY)
                if self.random.random() < 0.4 and self.pids:
                    pid = self.random.choice([*self.pids.values()])
                    self.kills += db.execute("SELECT pg_terminate_backend(%s)", (pid,)).fetchone()[0]
                row, number = self.random.randrange(1, rows), len(self.edited)
                with contextlib.suppress(psycopg.errors.LockNotAvailable):
                    db.execute("UPDATE docs SET body = %s WHERE id = %s", (f"edit {number}", row))
                    edited.add(f"title\n\nedit {number}")
                    self.edited.append(number)
        self.over.set()
        for worker in workers:
            worker.join()
        return edited


def allowed_twice(api, edited, refused):
    """Live edits, texts that the provider did not embed in a batch, and those of requests that a kill cut."""
    return edited | refused | {text for text, times in api.sent.items() if times > 1}


def assert_clean(db, api):
    for table in ("batch_text", "in_flight", "job"):
        assert db.execute(f"SELECT count(*) FROM embed.{table}").fetchone() == (0,), table
    assert api.files == {}


@pytest.mark.parametrize("outcome", ["done", "expired"])
@pytest.mark.parametrize("api", SERVERS, indirect=True)
def test_every_row_is_embedded_and_no_text_of_a_batch_is_paid_for_twice(dsn, connect, db, docs, api, outcome):
    api.register(db, price=1)
    fill(db, ROWS)
    refused = {f"title\n\ntext {n}" for n in range(0, ROWS, 997)}
    api.fault.status = lambda text: 500 if text in refused else None
    api.fault.outcome = outcome
    create(db)
    storm = Storm(dsn, api, 11)
    edited = storm.run(SECONDS)
    storm.mend()
    through(db, connect(), timeout=240)
    assert_as_source(db)
    twice = {text for _, text in api.paid_twice}
    print(storm.kills, dict(api.counts), batches(db), len(api.sent), len(twice))
    assert not twice - allowed_twice(api, edited, refused)
    assert_clean(db, api)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("api", SERVERS, indirect=True)
def test_rebuilds_in_a_storm(dsn, connect, db, docs, api, seed):
    """Many small batches, so that each of their steps is hit."""
    rows, rounds = 300, 8
    api.register(db, price=1)
    fill(db, rows)
    create(db, batch_min_texts=100)
    edited = set()
    storm = Storm(dsn, api, seed)
    for number in range(rounds):
        if number:
            db.execute("SELECT embed_build('docs', template => %s)", (f"{number}: $title $body",))
        for kind in ("upload", "create"):
            api.fault.lose[kind] += storm.random.randrange(2)
        edited |= storm.run(6.0, rows)
        storm.mend()
        through(db, connect(), timeout=120)
        if number:
            db.execute("SELECT embed_promote('docs')")
    shown = db.execute("SELECT id, chunk FROM docs_embedding WHERE NOT is_stale").fetchall()
    wanted = db.execute("SELECT id, %s || title || ' ' || body FROM docs", (f"{rounds - 1}: ",)).fetchall()
    assert sorted(shown) == sorted(wanted)
    twice = {text for _, text in api.paid_twice}
    print(storm.kills, dict(api.counts), batches(db), len(api.sent), len(twice))
    assert not {text for text in twice if "edit" not in text}
    through(db, connect(), timeout=60)
    assert_clean(db, api)
