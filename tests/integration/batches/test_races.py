"""Two sessions at one text or one batch: each order of their steps pays for every text once."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source
from tests.integration.batches.lane import HURRY, WORK, batches, create, state, steps, through

pytestmark = pytest.mark.shared_database

ROWS = 30
NOTES = "CALL embed_work('notes', until_empty => true, max_runtime => '20 s')"
LOST = "UPDATE embed.batch SET expires_at = clock_timestamp() - interval '1 second' WHERE token IS NOT NULL"


@pytest.fixture
def notes(db, lane):
    """Another table with the texts of ``docs``, whose history goes by requests."""
    db.execute("CREATE TABLE notes AS SELECT id + 100 AS id, title, body FROM docs")
    db.execute("ALTER TABLE notes ADD PRIMARY KEY (id)")
    yield
    db.execute("SELECT embed_drop('notes')")
    db.execute("DROP TABLE notes")


def test_a_text_that_goes_to_a_batch_while_another_worker_claims_it(connect, db, lane, notes, stoppable):
    """It looks for batches once it has marked its texts as in flight, so it sees the batch."""
    create(db, "notes", backfill_via="requests")
    other = stoppable()
    assert other.parked(NOTES, "mark_in_flight")
    create(db)
    worker = connect()
    worker.execute("CALL embed_work('docs', until_empty => true, max_runtime => '20 s')")
    assert db.execute("SELECT count(*) FROM embed.batch_text").fetchone() == (ROWS,)
    other.let_go()
    through(db, worker)
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert (lane.sent.total(), lane.paid_twice) == (0, {})


def test_a_text_whose_vector_arrives_while_another_worker_claims_it(connect, db, lane, notes, stoppable):
    """It looks for vectors once it has looked for batches, so it sees the one or the other."""
    lane.auto = False
    create(db)
    worker = connect()
    steps(db, worker, "submitted")
    create(db, "notes", backfill_via="requests")
    other = stoppable()
    assert other.parked(NOTES, "open_texts")
    lane.finish()
    db.execute("SELECT embed_pause('docs')")  # its rows wait, and the vectors are cached
    steps(db, worker, "done")
    other.let_go()
    db.execute("SELECT embed_resume('docs')")
    through(db, worker)
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert (lane.sent.total(), lane.paid_twice) == (0, {})


def test_a_worker_that_has_lost_its_batch_ends_nothing(connect, db, lane, stoppable):
    """It was silent for longer than its lease, and another one took the batch to its end."""
    lane.auto = False
    create(db)
    worker = connect()
    steps(db, worker, "submitted")
    lane.finish()
    db.execute(HURRY)
    late = stoppable()
    assert late.parked(WORK, "lock_owned", nth=2)  # all is filed, and the batch is about to end
    db.execute(LOST)
    db.execute(HURRY)
    steps(db, worker, "done")
    usage = "SELECT sum(calls), sum(texts), sum(cost) FROM embed_usage"
    before = db.execute(usage).fetchone()
    late.let_go()
    assert db.execute(usage).fetchone() == before
    through(db, worker)
    assert_as_source(db)
    assert [row[1:4] for row in batches(db)] == [("done", ROWS, ROWS)]
    assert state(db, "cost") == pytest.approx(before[2])
    assert (lane.sent.total(), lane.paid_twice) == (0, {})


def test_a_batch_that_is_cancelled_just_before_it_is_created(connect, db, lane, stoppable):
    """Its rows go by requests, so it must not be created any more."""
    create(db)
    worker, late = connect(), stoppable()
    while not late.parked(WORK, "note_asked"):
        late.let_go()
        db.execute(HURRY)
    db.execute("SELECT embed_batch_cancel(%s)", (state(db, "id"),))
    late.let_go()
    through(db, worker)
    assert_as_source(db)
    assert (lane.counts["create"], lane.sent.total(), lane.paid_twice) == (0, ROWS, {})
    assert lane.files == {}


def test_two_workers_seal_a_batch(connect, db, lane, stoppable):
    """The budget is charged once: it has room for half as many texts again, which would go to another batch."""
    create(db, daily_cost=90)
    worker, other = connect(), stoppable()
    worker.execute(WORK)
    db.execute(HURRY)
    assert other.parked(WORK, "lock_unsealed", "after")
    worker.execute("CALL embed_work(until_idle => true, max_runtime => '2 s')")
    other.let_go()
    through(db, worker)
    assert_as_source(db)
    assert [row[1:4] for row in batches(db)] == [("done", ROWS, ROWS)]
    assert (lane.sent.total(), lane.paid_twice) == (0, {})
