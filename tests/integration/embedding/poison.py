"""One text that spoils every request it is in: pipelines with it, the ways it fails, and workers beside it."""

from math import ceil, log2

import psycopg
import pytest

from tests.fixtures.pipelines.endpoints import create, serve, table
from tests.fixtures.providers import faults
from tests.fixtures.waiting import Background

ROWS = 300
SHORT = {"read_timeout": 0.4, "total_timeout": 0.6}
KINDS = {
    "500": faults.status(500),
    "424": faults.status(424),
    "409": faults.status(409),
    "503": faults.status(503),
    "529": faults.status(529),
    "403 of a firewall": faults.status(403),
    "dropped": faults.reset(),
    "dropped within": faults.reset(after=20),
    "truncated": faults.truncated(),
    "empty": faults.status(200, b""),
    "a page": faults.html(),
    "401": faults.status(401),
    "404": faults.status(404),
    "quota": faults.insufficient_quota(),
    "redirect": faults.redirect("http://127.0.0.1:9/blocked"),
    "asks for a pause": faults.status(503, retry_after="1"),
    "no vectors": faults.each(lambda _: None),
    "zeros": faults.each(lambda item: [0.0] * len(item)),
    "other dimensions": faults.each(lambda item: item[:-1]),
    "times out": None,
}
OFTEN = {"500", "424", "503", "403 of a firewall", "dropped", "truncated", "404", "no vectors", "times out"}
#: Twice as it is, a harmless text, and four quarters of each size: 2 log2(n) + 5.
MOST = 2 * ceil(log2(ROWS)) + 5
WORK = "CALL embed_work(max_runtime => '60 s')"
ONE_PASS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')"}


def is_poison(text):
    return "poison" in text


def poisoned(call):
    return any(map(is_poison, call.texts))


def spoil(provider, kind):
    """Make every request fail that holds a poison text."""
    provider.fail(KINDS[kind] or (lambda _: provider.stopped.wait(1.5)), when=poisoned)


def make(db, provider, rows=ROWS, culprits=(137,), options=None, model=None, **endpoint):
    serve(db, provider, "loop", model, **SHORT, **endpoint)
    table(db, "docs", rows)
    db.execute("UPDATE docs SET title = 'poison ' || id WHERE id = ANY (%s)", ([*culprits],))
    create(db, **(options or {}))


def are_fresh(db, rows, pipeline="docs"):
    """Count in the table itself: the view is checked at the end."""
    return db.execute("SELECT fresh FROM embed_status WHERE pipeline = %s", (pipeline,)).fetchone()[0] >= rows


def breaker(db):
    return db.execute("SELECT breaker, failures FROM embed_endpoints WHERE endpoint = 'loop'").fetchone()


def work_in_background(connect):
    session = connect()
    return session, Background(session, WORK)


def stop(session, work):
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
