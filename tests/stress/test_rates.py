"""A rate limit is one for all sessions, holds in any stretch of time, and is used up nearly whole."""

import email.utils
import time

import psycopg
import pytest

from evergreen.embedding.limits.rate_limit import MINUTE, Bucket, Limit, spend, wait
from tests.fixtures.pipelines.documents import drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import Meter, change, create, hurry, serve, table
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.stress

RATE = 1200  # a minute: 20 a second, of which 40 may go at once
ONE = {"inputs": 1}
WORK = "CALL embed_work(max_runtime => '60 s')"


def allowed(seconds, rate=RATE):
    """What may come in: the rate without the burst, the burst, and what was a fifth of a second on its way."""
    return (rate - rate / 30) * (seconds + 0.2) / 60 + rate / 30 + 2


def held(meter):
    """Fail if more came in than may, in stretches of one to five seconds."""
    for seconds in (1, 2, 5):
        assert meter.most(seconds) <= allowed(seconds), f"in {seconds} s"


def stop(workers):
    for connection, _ in workers:
        connection.cancel()
    for _, work in workers:
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()


def start(connect, number, statement=WORK):
    made = [connect() for _ in range(number)]
    return [(connection, Background(connection, statement)) for connection in made]


def test_workers_and_drains_side_by_side_share_one_rate_and_use_it(connect, db, provider):
    serve(db, provider, model=ONE, requests_per_minute=RATE)
    table(db, "docs", 2000)
    create(db)
    meter = Meter(provider)
    began = time.monotonic()
    workers = start(connect, 3)
    drains = [connect(), connect()]
    while time.monotonic() < began + 6:
        for drain in [Background(one, "SELECT embed_drain(max_rows => 20, max_runtime => '1 s')") for one in drains]:
            drain.result()
    took = time.monotonic() - meter.seen[0][0]
    sent = meter.requests()
    stop(workers)
    held(meter)
    assert sent >= 0.9 * RATE / 60 * took


def test_a_killed_session_and_a_rollback_give_no_second_helping(connect, db, provider):
    serve(db, provider, model=ONE, requests_per_minute=RATE)
    table(db, "docs", 1000)
    create(db)
    meter = Meter(provider)
    for _ in range(3):
        (_, work) = start(connect, 1)[0]
        seen = meter.requests()
        wait_until(lambda seen=seen: meter.requests() > seen + 30, what="requests")
        db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
        with pytest.raises(psycopg.OperationalError):
            work.result()
        session = connect(autocommit=False)
        session.execute("SELECT embed_drain(max_rows => 30, max_runtime => '0.3 s')")
        session.execute("ROLLBACK")
    held(meter)


def test_backfill_gets_its_share_while_live_work_takes_all_it_can(connect, db, provider):
    """Edits come faster than the rate; of what goes out, about a fifth is backfill."""
    serve(db, provider, model=ONE, requests_per_minute=RATE)
    table(db, "docs", 3000)
    create(db)
    meter = Meter(provider)
    db.execute("INSERT INTO docs SELECT i, 'edited ' || i, 'live' FROM generate_series(5001, 5400) i")
    workers = start(connect, 2)
    wait_until(lambda: meter.requests() > 60, what="the first burst")
    since = time.monotonic()
    wait_until(lambda: time.monotonic() > since + 6, what="six seconds")
    stop(workers)
    held(meter)
    live = [("live" in texts[0]) for at, texts in meter.seen if at >= since]
    assert 0.1 <= 1 - sum(live) / len(live) <= 0.3
    assert len(live) >= 0.85 * RATE / 10


def test_two_pipelines_on_one_endpoint_share_one_rate(connect, db, provider):
    serve(db, provider, model=ONE, requests_per_minute=RATE)
    for name in ("docs", "notes"):
        table(db, name, 300)
        create(db, name)
    meter = Meter(provider)
    workers = start(connect, 2)
    wait_until(lambda: meter.requests() >= 140, what="half of it")
    stop(workers)
    held(meter)
    notes = sum("notes" in texts[0] for _, texts in meter.seen)
    assert 0.3 <= notes / len(meter.seen) <= 0.7


def test_no_writer_waits_for_who_waits_for_the_rate(connect, db, provider):
    serve(db, provider, model=ONE, requests_per_minute=60)
    table(db, "docs", 200)
    create(db)
    meter = Meter(provider)
    workers = start(connect, 2)
    drain = connect(autocommit=False)
    open_drain = Background(drain, "SELECT embed_drain(max_runtime => '3 s')")
    wait_until(lambda: meter.requests() >= 2, what="requests")
    writer = connect()
    writer.execute("SET lock_timeout = '500 ms'; SET statement_timeout = '2 s'")
    for i in range(50):
        writer.execute("UPDATE docs SET body = 'again ' || %s WHERE id = %s", (i, i + 1))
    writer.execute("ALTER TABLE docs ADD COLUMN extra int")
    writer.execute("TRUNCATE docs")
    open_drain.result()
    drain.execute("ROLLBACK")
    stop(workers)


def test_a_limit_that_was_too_low_is_over_when_it_is_raised(db, docs, provider):
    serve(db, provider, model=ONE, requests_per_minute=0.1)
    create(db)
    assert drain_once(db) == 1
    drain_once(db)
    change(db, provider, requests_per_minute=6000)
    assert drain_once(db) == 9


def test_a_running_worker_takes_a_raised_limit(connect, db, docs, provider):
    serve(db, provider, model=ONE, requests_per_minute=0.5)
    create(db)
    workers = start(connect, 1)
    provider.wait_for_requests(1)
    wait_until(lambda: len(shown(db)) == 1, what="the first row")
    wait_until(lambda: status_of(db, "in_flight") == 0, what="nothing claimed")
    change(db, provider, requests_per_minute=6000)
    try:
        wait_until(lambda: len(shown(db)) == 10, timeout=6, what="the others")
    finally:
        stop(workers)


def test_a_running_worker_takes_more_requests_in_flight(connect, db, provider):
    serve(db, provider, model=ONE, max_in_flight=1)
    table(db, "docs", 300)
    create(db)
    workers = start(connect, 1)
    provider.wait_for_requests(2)
    change(db, provider, max_in_flight=8)
    table(db, "docs", 100, first=1001)
    wait_until(lambda: len(shown(db)) == 400, what="all")
    provider.hold()
    seen = len(provider.requests)
    table(db, "docs", 100, first=2001)
    try:
        provider.wait_for_requests(seen + 8, timeout=5)
    finally:
        provider.release()
        stop(workers)


def test_a_running_worker_takes_fewer_requests_in_flight(connect, db, provider):
    serve(db, provider, model=ONE, max_in_flight=8)
    table(db, "docs", 100)
    create(db)
    workers = start(connect, 1)
    wait_until(lambda: len(shown(db)) == 100, what="all")
    change(db, provider, max_in_flight=1)
    table(db, "docs", 20, first=1001)
    wait_until(lambda: len(shown(db)) == 120, what="all")
    provider.hold()
    seen = len(provider.requests)
    table(db, "docs", 20, first=2001)
    try:
        provider.wait_for_requests(seen + 1)
        with pytest.raises(TimeoutError):
            provider.wait_for_requests(seen + 2, timeout=1.5)
    finally:
        provider.release()
        stop(workers)


def test_a_429_that_says_now_is_no_invitation_to_try_without_end(connect, db, docs, provider):
    """Retry-After: 0, or a date of a clock that is behind: the server still says that it has had too much."""
    serve(db, provider, model=ONE)
    create(db)
    meter = Meter(provider)
    provider.fail(lambda reply: (setattr(reply, "status", 429), reply.headers.update({"Retry-After": "0"})))
    workers = start(connect, 1)
    wait_until(lambda: meter.requests() >= 3, what="the first tries")
    since = time.monotonic()
    wait_until(lambda: time.monotonic() > since + 5, what="five seconds")
    stop(workers)
    assert meter.requests(since) <= 12


def in_date(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


PAUSES = {
    "seconds": (429, {"Retry-After": "40"}),
    "a date": (429, {"Retry-After": lambda: in_date(40)}),
    "milliseconds": (429, {"retry-after-ms": "40000", "Retry-After": "1"}),
    "503": (503, {"Retry-After": "40"}),
    "a reset": (429, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0m40s"}),
    "the reset of what is spent": (
        429,
        {
            "x-ratelimit-remaining-requests": "7",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "40s",
        },
    ),
    "an answer": (200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "40s"}),
    "503 with a reset": (503, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "40s"}),
    "a 200 with Retry-After": (200, {"Retry-After": "40"}),
}


@pytest.mark.parametrize(
    "pause",
    [
        *list(PAUSES)[:-2],
        "503 with a reset",
        "a 200 with Retry-After",
    ],
)
def test_what_the_server_asks_for_holds_for_every_session(connect, db, docs, provider, pause):
    serve(db, provider, model=ONE, max_in_flight=1)
    create(db)
    code, headers = PAUSES[pause]

    def ask(reply):
        reply.status = code
        reply.headers |= {name: value() if callable(value) else value for name, value in headers.items()}

    provider.fail(ask)
    drain_once(db)
    assert len(provider.requests) == 1
    (rests,) = db.execute("SELECT extract(epoch FROM rests_until - clock_timestamp()) FROM embed_endpoints").fetchone()
    assert 30 < rests <= 41
    hurry(db)
    drain_once(connect())
    connect().execute("CALL embed_work(until_empty => true, max_runtime => '3 s')")
    assert len(provider.requests) == 1


def serve_wishes(limit, wishes):
    """As workers do: each wish (when, amount, live) is served as early as it may be; returns when and how much."""
    bucket, now, served = Bucket(0, 0), 0, []
    for at, amount, live in wishes:
        now = max(now, at)
        while pause := wait(bucket, limit, now, live=live):
            now += pause
        bucket = spend(bucket, limit, now, amount, live=live)
        served.append((now, amount))
    return served


def most_in_a_minute(served):
    return max(sum(a for t, a in served if start <= t < start + MINUTE) for start, _ in served)


@pytest.mark.parametrize("rate", [3, 60, 1200])
def test_backfills_own_share_comes_out_of_the_limit(rate):
    """Live work has taken all of a minute; then backfill begins, and has its share at once."""
    start = 10 * MINUTE
    wishes = [(start, 1, True)] * rate + [(start, 1, False)] + [(start, 1, True)] * rate
    assert most_in_a_minute(serve_wishes(Limit(rate), wishes)) <= rate


@pytest.mark.parametrize("amount", [1000, 1990])
@pytest.mark.parametrize("lanes", [(True,), (True, False)])
def test_tokens_of_large_requests_stay_within_the_limit(lanes, amount):
    """A request may hold a thirtieth of the limit; one that goes while there is room for one token takes it all."""
    rate = 60_000
    wishes = [(MINUTE, amount, live) for _ in range(100) for live in lanes]
    assert most_in_a_minute(serve_wishes(Limit(rate, is_tokens=True), wishes)) <= rate
