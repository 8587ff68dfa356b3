"""The size of request that a server can take is found, shared by all workers, shown, and forgotten when it changes.

The kind: a request fails only because of how much is in it, or how much the server has to do besides: it works on one
text after the other and a time-out cuts it off, it takes only so many texts, or only so many bytes.
"""

import threading
import time

import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import assert_as_source, drain_once
from tests.fixtures.pipelines.endpoints import change, create, hurry, serve, table
from tests.fixtures.providers import faults
from tests.fixtures.stress import often
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

WORK = "CALL embed_work(max_runtime => '60 s', until_empty => true)"
A_TEXT = 0.04  # seconds; 30 s for 1.2 s a text are 1 s for this
SHORT = {"read_timeout": 1.0, "total_timeout": 2.0}
LEARNED = "SELECT learned_inputs, seconds_per_text FROM embed_endpoints"


class Serial:
    """Makes a provider work on one text after the other, also on those of requests that were given up."""

    def __init__(self, provider, a_text=A_TEXT):
        self.a_text = a_text
        self.failed = 0
        self._turn = threading.Lock()
        self._wait = threading.Event()
        provider.answer = self._answer

    def _answer(self, texts):
        since = time.monotonic()
        with self._turn:
            self._wait.wait(self.a_text * len(texts))
        self.failed += time.monotonic() - since > SHORT["read_timeout"]


def learned(db):
    return db.execute(LEARNED).fetchone()


def all_fresh(db, rows, pipeline="docs"):
    return db.execute("SELECT fresh FROM embed_status WHERE pipeline = %s", (pipeline,)).fetchone()[0] >= rows


@pytest.mark.slow
@pytest.mark.parametrize("workers", often([1, 3], 3))
@pytest.mark.parametrize("in_flight", [2, pytest.param(8, marks=pytest.mark.stress)])
def test_a_serial_server_is_kept_busy_and_never_cut_off(connect, db, provider, workers, in_flight):
    rows = 150
    serve(db, provider, "loop", {"inputs": 32}, max_in_flight=in_flight, **SHORT)
    table(db, "docs", rows)
    create(db)
    server = Serial(provider)
    works = [Background(connect(), WORK) for _ in range(workers)]
    provider.wait_for_requests(1)
    since = time.monotonic()
    wait_until(lambda: provider.sent.total() >= rows and all_fresh(db, rows), timeout=30, what="all rows")
    took = time.monotonic() - since
    for work in works:
        work.result()
    assert_as_source(db)
    assert rows * A_TEXT / took >= 0.8
    assert server.failed == 0
    assert provider.sent.total() == rows, "no text was sent twice"
    inputs, seconds = learned(db)
    assert 0.5 * SHORT["read_timeout"] < inputs * seconds <= SHORT["read_timeout"]
    assert A_TEXT * 0.8 < seconds < A_TEXT * 1.5


@pytest.mark.slow
def test_a_server_that_becomes_slow_is_learned_anew_and_one_that_is_set_again_forgotten(db, provider):
    serve(db, provider, "loop", {"inputs": 32}, **SHORT)
    table(db, "docs", 64)
    create(db)
    drain_once(db)
    assert learned(db)[0] is None
    Serial(provider)
    db.execute("UPDATE docs SET body = 'edit ' || id")
    while not all_fresh(db, 64):
        hurry(db)
        drain_once(db)
    assert learned(db)[0] < 32
    change(db, provider, **SHORT)
    assert learned(db) == (None, None)


@pytest.mark.slow
def test_a_server_that_becomes_faster_gets_more(db, provider):
    serve(db, provider, "loop", {"inputs": 32}, **SHORT)
    table(db, "docs", 30)
    create(db)
    server = Serial(provider)
    drain_once(db)
    slow = learned(db)[0]
    server.a_text = 0.001
    for i in range(4):
        db.execute("UPDATE docs SET body = %s || id", (f"{i} ",))
        drain_once(db)
    assert (learned(db)[0] or 32) > slow


@pytest.mark.slow
@pytest.mark.parametrize("code", [500, 413])
def test_a_server_that_takes_only_so_many_texts(db, provider, code):
    serve(db, provider, "loop", {"inputs": 128}, **SHORT)
    table(db, "docs", 400)
    create(db)
    provider.fail(faults.status(code), when=lambda call: len(call.texts) > 16)
    drain_once(db)
    assert_as_source(db)
    assert 8 <= learned(db)[0] <= 16
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("closed", 0)
    provider.reset()
    db.execute("UPDATE docs SET body = 'edit ' || id")
    drain_once(db)
    assert_as_source(db)
    assert sum(len(texts) > 16 for texts in provider.requests) <= 2
    assert db.execute("SELECT max(attempts) FROM embed.job").fetchone() == (None,)


def test_a_server_that_takes_only_so_many_bytes(db, provider):
    serve(db, provider, "loop", {"inputs": 128}, **SHORT)
    table(db, "docs", 300)
    db.execute("UPDATE docs SET body = repeat(md5(id::text), 1 + id % 5)")
    create(db)
    provider.fail(faults.reset(), when=lambda call: sum(map(len, call.texts)) > 2000)
    for _ in range(3):
        hurry(db)
        drain_once(db)
    assert_as_source(db)
    assert learned(db)[0] < 60


def test_doctor_says_what_was_learned(dsn, db, provider):
    serve(db, provider, "loop", {"inputs": 128}, **SHORT)
    table(db, "docs", 200)
    create(db)
    provider.fail(faults.status(500), when=lambda call: len(call.texts) > 16)
    drain_once(db)
    assert any("texts at a time" in found["message"] for found in Doctor(dsn).findings("endpoint"))
