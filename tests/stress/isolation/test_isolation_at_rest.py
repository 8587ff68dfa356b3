"""What rests costs next to nothing; one probe at a time; another server under the same name is asked at once."""

import time
from collections import Counter

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import CALLS, change, create, hurry, let_time_pass, serve, table
from tests.fixtures.providers import faults
from tests.fixtures.waiting import Background, wait_until
from tests.stress.isolation.pipelines import ONE, WORK, edits_become_fresh

pytestmark = pytest.mark.stress

RESTS = {
    "down": ({}, {}, lambda p: p.fail(faults.status(500))),
    "busy": ({}, {}, lambda p: p.fail(faults.status(429, Retry_After="300"))),
    "rate limited": ({"requests_per_minute": 0.5}, {}, lambda _: None),
    "over budget": ({}, {"daily_tokens": 20}, lambda _: None),
    "wrong key": ({}, {}, lambda p: p.fail(faults.status(401))),
}


@pytest.mark.parametrize("rest", sorted(RESTS))
def test_until_empty_ends_when_all_that_is_left_rests(connect, db, provider, rest):
    endpoint, options, spoil = RESTS[rest]
    spoil(provider)
    serve(db, provider, "loop", ONE, **endpoint)
    table(db, "docs", 200)
    create(db, **options)
    began = time.monotonic()
    connect().execute(CALLS["work"])
    assert time.monotonic() - began < 8
    assert status_of(db, "in_flight") == 0


def spent_cpu(pid):
    """Processor seconds of a backend."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()  # noqa: PTH123, SIM115
    return (int(fields[11]) + int(fields[12])) / 100


def written(db):
    """Transactions that wrote, and bytes of WAL; what statistics count is told only when a CALL has ended."""
    counted = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_lsn() - '0/0'::pg_lsn"
    return db.execute(counted).fetchone()


@pytest.mark.parametrize("rest", sorted(RESTS))
def test_a_worker_costs_next_to_nothing_while_all_rests(connect, db, provider, rest):
    endpoint, options, spoil = RESTS[rest]
    spoil(provider)
    serve(db, provider, "loop", ONE, **endpoint)
    table(db, "docs", 200)
    create(db, **options)
    notices: list[str] = []
    connection = connect()
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    work = Background(connection, WORK)
    provider.wait_for_requests(1)
    since = time.monotonic()
    wait_until(lambda: time.monotonic() > since + 4, what="it to calm down")
    sent = len(provider.requests)
    cpu, since = spent_cpu(work.pid), time.monotonic()
    before = written(db)
    wait_until(lambda: time.monotonic() > since + 3, what="three seconds")
    cpu = (spent_cpu(work.pid) - cpu) / 3
    transactions, size = (now - then for now, then in zip(written(db), before, strict=True))
    connection.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert cpu < 0.1
    assert transactions < 100
    assert size < 1_000_000
    assert notices == []
    assert len(provider.requests) <= sent + 6


def test_one_probe_at_a_time_however_many_pipelines_wait(connect, db, provider):
    serve(db, provider, "loop", ONE)
    for name in ("a", "b", "c", "d"):
        table(db, name, 10)
        create(db, name)
    provider.fail(faults.status(500))
    drain_once(db)
    assert db.execute("SELECT breaker FROM embed_endpoints").fetchone() == ("open",)
    provider.mend()
    provider.reset()
    provider.hold()
    let_time_pass(db)
    sessions = [connect() for _ in range(4)]
    workers = [Background(session, WORK) for session in sessions]
    provider.wait_for_requests(1)
    for _ in range(3):
        hurry(db)
        drain_once(db)
    assert len(provider.requests) == 1
    provider.release()
    wait_until(lambda: all(len(shown(db, name)) == 10 for name in "abcd"), timeout=15, what="all")
    for session, work in zip(sessions, workers, strict=True):
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()
    assert max(Counter(text for texts in provider.requests for text in texts).values()) == 1


def test_a_cancelled_probe_does_not_hold_others_up_for_long(connect, db, docs, provider):
    """A user presses Ctrl-C, or has a short statement_timeout."""
    serve(db, provider)
    create(db)
    provider.fail(faults.status(500))
    drain_once(db)
    provider.mend()
    provider.hold()
    let_time_pass(db)
    provider.reset()
    session = connect()
    probe = Background(session, CALLS["drain"])
    provider.wait_for_requests(1)
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        probe.result()
    provider.release()
    hurry(db)
    wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, timeout=8, what="another probe")


def test_a_probe_of_a_pipeline_over_its_budget_is_left_to_others(db, docs, provider):
    serve(db, provider)
    create(db, daily_tokens=1)
    table(db, "notes", 10)
    create(db, "notes")
    provider.fail(faults.status(500))
    drain_once(db)
    provider.mend()
    for _ in range(3):
        let_time_pass(db)
        drain_once(db)
    assert_as_source(db, "notes")


ENDS = {
    "open breaker": faults.status(500),
    "a pause of an hour": faults.status(429, Retry_After="3600"),
    "a wrong key": faults.status(401),
}


@pytest.mark.parametrize("end", ENDS)
def test_another_server_under_the_same_name_is_asked_at_once(db, docs, provider, healthy, end):
    """What the old one did is no reason to let the new one wait."""
    serve(db, provider)
    create(db)
    provider.fail(ENDS[end])
    drain_once(db)
    change(db, healthy)
    drain_once(db)
    hurry(db)
    drain_once(db)
    assert_as_source(db)


@pytest.mark.parametrize("end", sorted(ENDS))
def test_a_running_worker_asks_another_server_under_the_same_name(db, docs, provider, healthy, worker, end):
    serve(db, provider)
    create(db)
    provider.fail(ENDS[end])
    provider.wait_for_requests(1)
    wait_until(lambda: status_of(db, "in_flight") == 0, what="its failure")
    change(db, healthy)
    wait_until(lambda: len(shown(db)) == 10, what="the new server's answers")


def test_a_pipeline_and_its_model_are_dropped_under_a_working_worker(db, docs, provider, healthy, worker):
    serve(db, provider)
    serve(db, healthy, "well")
    create(db)
    table(db, "notes", 10)
    create(db, "notes", "well")
    provider.hold()
    provider.wait_for_requests(1)
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_model_drop('loop')")
    provider.release()
    wait_until(lambda: len(shown(db, "notes")) == 10, what="the other one")
    serve(db, provider)
    create(db)
    wait_until(lambda: len(shown(db)) == 10, what="it, recreated")
    assert worker.running
    assert edits_become_fresh(db, "notes") < 2
