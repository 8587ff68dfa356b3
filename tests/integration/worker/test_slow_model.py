"""A model that is slower than a lease: its worker keeps the claim, and what comes late is used."""

import os
import signal

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_once, shown, status_of
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_setting('lease', '1 s')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")


def leases(db):
    return db.execute("SELECT expires_at FROM embed.lease").fetchall()


@pytest.mark.slow
def test_a_worker_that_waits_for_its_model_keeps_what_it_claimed(connect, db, pipeline, provider):
    """For longer than two leases no other session claims the rows or sends their texts."""
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests(1)
    ends = set(leases(db))
    while len(ends) < 7:  # renewed at a third of its time
        wait_until(lambda: not set(leases(db)) <= ends, what="the claim renewed")
        ends.update(leases(db))
        assert drain_once(db) == 0
        assert status_of(db, "in_flight") == 10
    assert db.execute("SELECT bool_and(expires_at > clock_timestamp()) FROM embed.in_flight").fetchone() == (True,)
    provider.release()
    work.result()
    assert_as_source(db)
    assert len(provider.requests) == 1


def test_a_claim_that_nobody_renews_is_over(connect, db, pipeline, provider):
    """As that of a session that lives and hangs: its time ends, another one does the rows, and it changes nothing."""
    provider.hold()
    hanging = connect()
    work = Background(hanging, WORK)
    provider.wait_for_requests(1)
    os.kill(work.pid, signal.SIGSTOP)
    try:
        provider.release()
        wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="the rows done by another")
    finally:
        os.kill(work.pid, signal.SIGCONT)
    work.result()
    assert_as_source(db)
    assert provider.sent.total() <= 20, "at most the texts in flight are sent twice"


def test_a_lost_claim_does_not_finish_a_later_change_of_its_rows(connect, db, pipeline, provider):
    """The job of the later change has the same key and number of changes; only the fencing token differs."""
    provider.hold()
    hanging = connect()
    work = Background(hanging, WORK)
    provider.wait_for_requests(1)
    os.kill(work.pid, signal.SIGSTOP)
    try:
        provider.release()
        wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="the rows done by another")
        db.execute("UPDATE docs SET body = 'later' WHERE id = 1")
        ((token,),) = db.execute("SELECT DISTINCT token FROM embed_claim('docs', 10)").fetchall()
    finally:
        os.kill(work.pid, signal.SIGCONT)
    work.result()
    db.execute("SELECT embed_release('docs', %s)", (token,))
    drain_once(db)
    assert_as_source(db)


def test_a_job_that_another_session_has_locked_delays_no_other_row(connect, db, pipeline, provider):
    """As an open drain has, which added a change to it. The row itself is written by the next work after that drain."""
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests(1)
    other = connect(autocommit=False)
    other.execute("UPDATE embed.job SET changes = changes + 1 WHERE key = '[1]'")
    provider.release()
    wait_until(lambda: len(shown(db)) == 9, what="the other rows")
    work.result()
    other.commit()
    drain_once(db)
    assert_as_source(db)


def test_a_lease_that_is_over_frees_jobs_that_had_longer(connect, db, pipeline, provider):
    """As when setting "lease" changes while a claim is made; then the worker dies."""
    provider.hold()
    hanging = connect()
    work = Background(hanging, WORK)
    provider.wait_for_requests(1)
    os.kill(work.pid, signal.SIGSTOP)
    try:
        db.execute("UPDATE embed.job SET ready_at = clock_timestamp() + interval '1 hour'")
        provider.release()
        wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="the rows done by another")
        db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
    finally:
        os.kill(work.pid, signal.SIGCONT)
    with pytest.raises(psycopg.OperationalError):
        work.result()
    drain_once(db)
    assert_as_source(db)
    assert db.execute("SELECT count(*) FROM embed.job").fetchone() == (0,)


@pytest.mark.parametrize("value", ["0", "999 ms", "-1 hour", "soon"])
def test_a_lease_is_at_least_a_second(db, value):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="lease"):
        db.execute("SELECT embed_setting('lease', %s)", (value,))
    assert db.execute("SELECT embed_setting('lease')").fetchone() == ("5 minutes",)


@pytest.mark.fresh_database
def test_rows_truncated_while_they_were_out_leave_nothing_behind(connect, db, docs, model, provider):
    """Another worker has looked for orphans, and found none, before the first one writes what it read earlier."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests(1)
    db.execute("TRUNCATE docs")
    wait_until(lambda: drain_once(db) == 0, what="the log folded")
    wait_until(
        lambda: db.execute("SELECT count(*) FROM embed.backfill_cursor WHERE running").fetchone() == (0,),
        what="the cursors' end",
    )
    assert db.execute("SELECT max(round) FROM embed.backfill_cursor WHERE scope = 'document'").fetchone() == (1,)
    provider.release()
    work.result()
    while drain_once(db):
        pass
    assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed_store.g1").fetchone() == (0,)


def test_a_cancelled_worker_cuts_its_request(connect, db, docs, model, provider):
    """The server sees the connection closed at once, and not when some time-out ends it."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    worker = connect()
    work = Background(worker, WORK)
    provider.wait_for_requests(1)
    worker.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result(5)
    provider.release()
    while drain_once(db):
        pass
    assert_as_source(db)
