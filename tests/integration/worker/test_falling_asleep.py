"""A writer at every step of a worker that falls asleep: what it commits is seen, or wakes the worker."""

import pytest

from tests.fixtures.breakpoints import Stoppable
from tests.fixtures.pipelines.documents import stale_keys
from tests.fixtures.worker_processes import SLEEP, WORK, is_woken, listen

pytestmark = pytest.mark.shared_database

EDIT = "UPDATE docs SET body = body || '!' WHERE id = 1"
INSIDE = [
    ("holds_sleep_lock", "before", 1),
    ("is_sleep_announced", "after", 1),
    ("announce_sleep", "after", 1),
    ("is_sleep_lock_free", "after", 1),
    ("try_sleep_lock", "after", 1),
    ("has_new_changes", "before", 1),
    ("has_new_changes", "after", 1),
    ("is_anything_left", "after", 1),
]


@pytest.mark.few(2)
@pytest.mark.parametrize("begins", ["before", "meanwhile"])
@pytest.mark.parametrize("commits", ["meanwhile", "after"])
def test_no_wakeup_is_lost_while_a_worker_falls_asleep(connect, db, pipeline, begins, commits):
    """Where a writer is at work before, the worker does not come as far as to sleep."""
    stop = Stoppable(connect(), connect())
    listen(stop.session)
    slept = 0
    for query, when, nth in INSIDE:
        for said_before in (False, True):  # that a worker sleeps: then it is not announced again
            stop.start(WORK).result()
            db.execute("SELECT setval('embed.sleeper_until', %s)", (1 << 60 if said_before else 0,))
            writer = connect(autocommit=False)
            if begins == "before":
                writer.execute(EDIT)
            stop.parked(SLEEP, query, when, nth=nth)
            if begins == "meanwhile":
                writer.execute(EDIT)
            writer.execute("SET CONSTRAINTS ALL IMMEDIATE")  # the commit has come to where it decides about NOTIFY
            if commits == "meanwhile":
                writer.commit()
            ((asleep, _),) = stop.let_go()
            writer.commit()
            assert stale_keys(db) == [1]
            assert not asleep or is_woken(stop.session), (query, when, nth, said_before)
            stop.start(WORK).result()
            assert stale_keys(db) == []
            slept += asleep
    assert slept > 0 or begins == "before"
