"""A worker ends before or after each of its commits: the next one does the rest at once and pays twice for little."""

from itertools import count, cycle
from typing import NamedTuple

import orjson
import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.breakpoints import Stoppable, commit_of
from tests.fixtures.endings import after_crash, ended
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once
from tests.fixtures.providers.loopback import LoopbackProvider, vector
from tests.fixtures.stress import left, locks

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
DRAIN = "SELECT embed_drain()"
TEXTS = 6  # that each round of changes makes
# One request for all of them; or two texts a request, one request at a time. Then, when a worker ends, one may be under
# way, and the answer of the one before may be with the worker: answers are kept after the next request has been sent.
PACKINGS = {"one request": ({}, {}, TEXTS), "three requests": ({"max_in_flight": 1}, {"inputs": 2}, 2 * 2)}
WHEN = ("before", "after")
# Of a batch of three requests: the claim, an answer kept, and the end.
KILLED_AT = {
    (2, "after"): commit_of("claim"),
    (4, "after"): commit_of("save"),
    (6, "before"): commit_of("finish"),
    (6, "after"): commit_of("finish"),
}
_rounds = count(1)


def change(db):
    """Edits, a text that two rows have, a new row, a row that goes, a key that changes: the texts are new each time."""
    number = next(_rounds)
    for statement in (
        "UPDATE docs SET body = '{n} edit ' || id WHERE id BETWEEN 1 AND 4",
        "UPDATE docs SET title = 'same', body = '{n}' WHERE id IN (5, 6)",
        "INSERT INTO docs VALUES (1000 + {n}, 'new', '{n}')",
        "DELETE FROM docs WHERE id > 1000 AND id <> 1000 + {n}",
        "UPDATE docs SET id = -id WHERE id IN (8, -8)",
    ):
        db.execute(statement.format(n=number))
    return {*(f"title {i}\n\n{number} edit {i}" for i in range(1, 5)), f"same\n\n{number}", f"new\n\n{number}"}


def kept(db, texts):
    """The texts whose vector is committed."""
    places = db.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE oid = 'embed.cache'::regclass"
        " OR (relkind = 'r' AND relnamespace = 'embed_store'::regnamespace)"
    ).fetchall()
    found = {
        tuple(round(x, 4) for x in orjson.loads(v))
        for (place,) in places
        for (v,) in db.execute(f"SELECT embedding::text FROM {place}").fetchall()
    }
    return {text for text in texts if tuple(round(x, 4) for x in vector(text, 8)) in found}


class Point(NamedTuple):
    """A step at which a worker ended, and how many texts were sent twice because of it."""

    step: str  # "before …" or "after …"
    twice: int


def recover(db, provider, texts, call):
    """Let the next worker do what is left, by one call; return how many texts were sent twice."""
    safe = kept(db, texts)
    db.execute(call)
    assert_as_source(db)
    assert set(provider.sent) == texts
    twice = {text for text, times in provider.sent.items() if times > 1}
    assert not twice & safe, "what was kept was paid for again"
    assert provider.sent.total() == len(texts) + len(twice)
    drain_once(db)  # a worker may leave the dead one's empty lease to the next
    assert left(db) == {}
    assert locks(db) == []
    return len(twice)


@pytest.fixture(params=PACKINGS)
def packed(request, db, docs, provider):
    """The pipeline; returns how many texts may be sent twice."""
    endpoint, model, most = PACKINGS[request.param]
    provider.register(db, endpoint=endpoint, **model)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    return most


def ends(db, provider, stoppable, call, steps):
    """End a session at step after step while there is one, and recover by a drain and a worker in turn."""
    for (where, when), recovery in zip(steps, cycle([DRAIN, WORK])):
        texts = change(db)
        provider.reset()
        stop = stoppable()
        if not ended(db, stop.start(call, where, when, how="terminate")):
            return
        yield Point(stop.stopped_at, recover(db, provider, texts, recovery))


@pytest.mark.few(1)
def test_a_worker_that_ends_at_any_commit(db, packed, provider, stoppable):
    every_commit = ((number, when) for number in count(1) for when in WHEN)
    points = list(ends(db, provider, stoppable, WORK, every_commit))
    steps = [point.step for point in points]
    until_sent = [f"{when} {commit_of(step)}" for step in ("look", "claim", "start") for when in WHEN]
    assert steps[:6] == until_sent
    assert steps[-2:] == [f"{when} {commit_of('finish')}" for when in WHEN]
    assert {point.twice for point in [*points[:6], points[-1]]} == {0}
    assert max(point.twice for point in points) <= packed


# By query: the first two stand before the request, the others after its answer.
SENT_BY_DRAIN = {"claim": 0, "mark_in_flight": 0, "finish_unchanged_jobs": TEXTS, "clear_failures": TEXTS}


def test_a_drain_that_ends_pays_again_for_its_own_calls_only(db, packed, provider, stoppable):
    """Its transaction is undone, with all that it had kept; what is not sent yet is not sent twice."""
    points = list(ends(db, provider, stoppable, DRAIN, [(query, "after") for query in SENT_BY_DRAIN]))
    assert points == [(f"after {query}", twice) for query, twice in SENT_BY_DRAIN.items()]


@pytest.fixture(scope="module")
def mortal():
    """A server of this file's own: a killed process takes all sessions with it."""
    with Cluster() as made, psycopg.connect(made.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
        db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
        yield made


def test_a_worker_that_is_killed_at_a_commit(mortal):
    """The server throws everybody out and comes back; the claim's lock went with the session."""
    with LoopbackProvider() as provider:
        db = psycopg.connect(mortal.dsn(), autocommit=True)
        provider.register(db, endpoint={"max_in_flight": 1}, inputs=2)
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        drain_all(db)
        for ((where, when), step), recovery in zip(KILLED_AT.items(), cycle([DRAIN, WORK])):
            texts = change(db)
            provider.reset()
            stop = Stoppable(psycopg.connect(mortal.dsn(), autocommit=True), db)
            with pytest.raises(psycopg.OperationalError):
                stop.start(WORK, where, when, how="kill").result()
            assert stop.stopped_at == f"{when} {step}"
            db = after_crash(mortal, db)
            assert recover(db, provider, texts, recovery) <= 2 * 2
