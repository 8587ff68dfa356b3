"""A backfill during writes, with workers that end in between: it continues, no row is missed or paid for twice."""

import psycopg
import pytest

from tests.fixtures.breakpoints import commit_of
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, status_of
from tests.fixtures.pipelines.history import MIND, MISS
from tests.fixtures.stress import left
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.stress


WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
BACKFILL = "SELECT embed_backfill('docs')"
# On the way of the cursor: the keys read and queued, the cursor moved, the claim committed, the result written.
ON_ITS_WAY = [
    ("insert_claimed_jobs", "before"),
    ("insert_claimed_jobs", "after"),
    ("move_cursor", "after"),
    (commit_of("claim"), "before"),
    (commit_of("claim"), "after"),
]


def unseen(db, *keys):
    """Edit rows behind the triggers' back; returns their texts."""
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'unseen ' || id WHERE id = ANY (%s)", (list(keys),))
    db.execute(MIND)
    drain_all(db)
    return {f"title {key}\n\nunseen {key}" for key in keys}


def write_all_over(db):
    """In front of the cursor and behind it: an edit, a new row, a row that goes, a key that changes."""
    for first in (1, 6):
        db.execute("UPDATE docs SET body = 'edited' WHERE id = %s", (first,))
        db.execute("INSERT INTO docs VALUES (%s, 'new', %s)", (first + 100, f"row {first}"))
        db.execute("DELETE FROM docs WHERE id = %s", (first + 1,))
        db.execute("UPDATE docs SET id = -id WHERE id = %s", (first + 2,))


@pytest.mark.parametrize(("where", "when"), ON_ITS_WAY)
@pytest.mark.parametrize("recovery", ["SELECT embed_drain()", WORK], ids=["drain", "work"])
def test_a_worker_that_ends_on_its_way(db, pipeline, provider, stoppable, where, when, recovery):
    texts = unseen(db, 4, 5, 9)
    provider.reset()
    db.execute(BACKFILL)
    stop = stoppable()
    with pytest.raises(psycopg.OperationalError):
        stop.start(WORK, where, when, how="terminate").result()
    write_all_over(db)
    db.execute(recovery)
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert status_of(db, "backfill_progress") == 1
    assert texts <= set(provider.sent)
    assert provider.sent == dict.fromkeys(provider.sent, 1)


@pytest.mark.parametrize(
    ("where", "when"), [*ON_ITS_WAY[:3], ("move_cursor", "before"), ("finish_unchanged_jobs", "before")]
)
def test_writers_come_between_its_steps(db, pipeline, provider, stoppable, where, when):
    texts = unseen(db, 4, 5, 9)
    provider.reset()
    db.execute(BACKFILL)
    stop = stoppable()
    assert stop.parked(WORK, where, when)
    write_all_over(db)
    drain_once(db)
    stop.let_go()
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert texts <= set(provider.sent)
    assert provider.sent == dict.fromkeys(provider.sent, 1)


@pytest.mark.parametrize(
    ("where", "when"), [("insert_claimed_jobs", "after"), ("move_cursor", "after"), ("finish_unchanged_jobs", "before")]
)
def test_asked_for_again_in_the_middle_of_its_walk(db, pipeline, provider, stoppable, where, when):
    """Rows that the cursor has passed change unseen meanwhile: the second walk finds them."""
    provider.reset()
    db.execute(BACKFILL)
    stop = stoppable()
    assert stop.parked(WORK, where, when)
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'unseen' WHERE id = 1")
    db.execute(MIND)
    db.execute(BACKFILL)
    stop.let_go()
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent == {"title 1\n\nunseen": 1}


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_drains_side_by_side_walk_on(connect, db, docs, model, provider, end):
    """One is left open in the middle of the first backfill: the other does the rest, and nothing is sent twice."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain = connect(autocommit=False)
    drain.execute("SELECT embed_drain(max_rows => 4)")
    assert drain_once(db) == 6
    provider_sent = dict(provider.sent)
    assert provider_sent == dict.fromkeys(provider_sent, 1)
    drain.execute(end)
    wait_until(lambda: not drain_once(db), what="the rest")
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent.total() == (10 if end == "COMMIT" else 14)
