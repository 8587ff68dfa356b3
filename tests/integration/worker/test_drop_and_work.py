"""A pipeline is dropped while a worker works on it: nothing is left of it in the end, in either order."""

import psycopg
import pytest

from tests.fixtures.breakpoints import STEPS
from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"


def nothing_is_left(db):
    """A worker comes by, as one always does; then there is no trace."""
    db.execute(WORK)
    drain_all(db)
    assert left(db) == {}
    assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,)


def waits_for_a_lock(db, work):
    """Whether a session waits for another."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    return db.execute(waits, (work.pid,)).fetchone() == (1,)


def refusal_of(drop):
    """The HINT of a drop that was refused, None if it was not."""
    try:
        drop.result()
    except psycopg.errors.LockNotAvailable as refusal:
        return refusal.diag.message_hint or ""
    return None


@pytest.mark.slow
@pytest.mark.parametrize("waits", [pytest.param(False, marks=pytest.mark.stress), True])
def test_a_pipeline_is_dropped_while_a_worker_stands(connect, db, pipeline, provider, stoppable, waits):
    """The drop may be refused for the moment of a step, and says so."""
    stop = stoppable()
    dropping = connect(options="-c statement_timeout=15000")
    for number, (where, when) in enumerate(STEPS):
        db.execute("UPDATE docs SET body = %s || id WHERE id <= 4", (f"edit {number} ",))
        assert stop.parked(WORK, where, when)
        drop = Background(dropping, "SELECT embed_drop('docs')")
        wait_until(lambda drop=drop: not drop.running or (waits and waits_for_a_lock(db, drop)), what="the drop")
        if waits:
            stop.let_go()
        hint = refusal_of(drop)
        stop.let_go()
        if hint is not None:
            assert hint.startswith(("Try again", "Retry")), stop.stopped_at
            dropping.execute("SELECT embed_drop('docs')")
        nothing_is_left(db)
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        drain_all(db)
        assert_as_source(db)


def test_a_pipeline_is_dropped_while_a_drain_of_its_first_rows_is_at_the_model(connect, db, docs, model, provider):
    """Its jobs are not committed, so that the drop cannot see them; they come to light when the drain ends."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), "SELECT embed_drain()")
    provider.wait_for_requests()
    db.execute("SELECT embed_drop('docs')")
    provider.release()
    work.result()
    nothing_is_left(db)
