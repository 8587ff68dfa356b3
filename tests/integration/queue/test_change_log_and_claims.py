"""Writers, coalescing and claims at the same time: each skips what another holds, and nothing falls between them."""

import pytest

from tests.fixtures.breakpoints import commit_of
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, source_texts, stale_keys
from tests.fixtures.pipelines.endpoints import let_time_pass
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
FOREVER = "CALL embed_work(max_runtime => '60 s')"


def edit(db, *keys, body="edited"):
    """Give rows new texts."""
    db.execute("UPDATE docs SET body = %s || ' ' || id WHERE id = ANY (%s)", (body, list(keys)))


# Within the transaction that folds the log: when the rows are taken, when the place to start from next time is set.
FOLDING = [
    ("coalesce", "before"),
    ("coalesce", "after"),
    ("advance_scan_start", "after"),
    (commit_of("look"), "before"),
    (commit_of("look"), "after"),
]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "SERIALIZABLE"])
def test_writers_commit_while_the_log_is_folded(connect, db, pipeline, provider, stoppable, isolation):
    """Two have written before the fold looked, a row that it takes and another; a third comes in between."""
    stop = stoppable()
    early = connect(options="-c statement_timeout=5000")
    for where, when in FOLDING:
        edit(db, 1, 3, body=f"{where} {when} first")
        early.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        early.execute("UPDATE docs SET body = %s WHERE id IN (2, 4)", (f"{where} {when} early",))
        assert stop.parked(WORK, where, when)
        early.execute("COMMIT")
        edit(db, 1, 5, body=f"{where} {when} late")
        stop.let_go()
        db.execute(WORK)
        assert_as_source(db)
        assert left(db) == {}
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def test_a_worker_does_what_is_queued_while_another_folds_the_log(connect, db, pipeline, provider, stoppable):
    """One at a time folds; the others do not wait for it. Without its lock they would, to move the floor."""
    provider.answer = lambda _: (503, b"down")
    edit(db, 1, 2)
    drain_once(db)  # leaves two jobs behind
    provider.answer = None
    stop = stoppable()
    edit(db, 3)
    assert stop.parked("CALL embed_work('docs', until_empty => true)", commit_of("look"), "before")
    edit(db, 4)  # there is something to fold
    let_time_pass(db)
    session = connect()
    work = Background(session, FOREVER)
    wait_until(lambda: stale_keys(db) == [3, 4], timeout=10, what="the queued rows' turn")
    assert work.running
    stop.let_go()
    wait_until(lambda: stale_keys(db) == [], what="the turn of the others")
    session.cancel()
    assert_as_source(db)


@pytest.mark.parametrize("second", ["SELECT embed_drain()", WORK])
def test_rows_that_are_being_claimed_are_left_to_who_claims_them(connect, db, pipeline, provider, stoppable, second):
    """A claim that is not committed holds rows 1 to 4: row 5 is another's at once, and nothing is claimed twice."""
    stop = stoppable()
    edit(db, 1, 2, 3, 4)
    assert stop.parked(WORK, commit_of("claim"), "before")
    edit(db, 1, body="edited again")
    edit(db, 5)
    other = connect(options="-c statement_timeout=15000")
    work = Background(other, second if second != WORK else FOREVER)
    wait_until(lambda: shown(db)[5][0] == source_texts(db)[5], timeout=10, what="row 5")
    assert stale_keys(db) == [1, 2, 3, 4]
    stop.let_go()
    wait_until(lambda: stale_keys(db) == [] or not work.running, what="the others")
    other.cancel()
    drain_all(db)
    assert_as_source(db)
    assert provider.sent == dict.fromkeys(provider.sent, 1)
    assert provider.sent.total() == 5  # row 1 was read after both of its edits


def test_two_drains_that_write_at_once_do_different_rows(connect, db, pipeline, provider, stoppable):
    first, second = stoppable(), stoppable()
    edit(db, 1, 2)
    assert first.parked("SELECT embed_drain()", "upsert_documents", "after")
    edit(db, 1, 3, body="again")  # row 1 is the first's; its new text waits
    assert second.parked("SELECT embed_drain()", "upsert_documents", "after")
    edit(db, 4)
    assert drain_once(db) == 1
    assert second.let_go() == [(1,)]
    assert first.let_go() == [(2,)]
    assert stale_keys(db) == [1]
    assert drain_once(db) == 1
    assert_as_source(db)
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def out_of_time(db):
    """Every lease that can be had has run out."""
    db.execute("UPDATE embed.lease SET expires_at = clock_timestamp() - interval '1 s'")
    ready = "SELECT ctid FROM embed.job FOR UPDATE SKIP LOCKED"
    db.execute(f"UPDATE embed.job SET ready_at = clock_timestamp() - interval '1 s' WHERE ctid = ANY (ARRAY({ready}))")


TAKE_JOBS = [("lock_round", "before"), ("locked_elsewhere", "before"), ("finish_unchanged_jobs", "after")]


@pytest.mark.few(1)
@pytest.mark.parametrize(("query", "when"), TAKE_JOBS)
def test_a_lease_runs_out_when_the_result_is_about_to_be_written(
    connect, db, pipeline, provider, stoppable, query, when
):
    """A late worker writes nothing unless it has locked its jobs; then no other session can claim them."""
    stop = stoppable()
    edit(db, 1, 2, body="old")
    assert stop.parked(WORK, query, when)
    out_of_time(db)
    edit(db, 1, body="new")
    assert drain_once(db) == (0 if when == "after" else 1)  # the text of row 2 is in flight
    db.execute("UPDATE docs SET body = 'newest' WHERE id = 1")
    stop.let_go()
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent == dict.fromkeys(provider.sent, 1)
