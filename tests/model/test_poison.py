"""One text that spoils every request it is in: its neighbours are fresh within seconds, and it alone waits.

The kind: a request fails as a whole, and neither its status nor its body says whether a text, the size of the request
or the endpoint is to blame. Members: any 5xx, a 4xx that is neither a refusal nor a matter of set-up, a time-out, a
connection that is dropped, and an answer that is empty, cut off or broken. The poison is told from an outage by a
harmless text, and found by quarters.
"""

from math import ceil, log2

import faults
import psycopg
import pytest
from documents import drain_once, shown, status_of
from listening import ListeningWorker
from roads import create, hurry, serve, table
from waiting import Background, wait_until

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
    "times out": None,
}
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


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_fresh_within_seconds(connect, db, provider, kind):
    make(db, provider)
    spoil(provider, kind)
    session, work = work_in_background(connect)
    wait_until(lambda: are_fresh(db, ROWS - 1), timeout=5, what="299 neighbours")
    wait_until(lambda: status_of(db, "last_error") is not None, what="the culprit's failure")
    stop(session, work)
    assert breaker(db) == ("closed", 0)
    assert len(provider.requests) <= MOST + 2, "and its first try alone"
    assert 137 not in shown(db)
    assert db.execute("SELECT count(*) FROM embed.job").fetchone() == (1,)
