"""What may be done to a pipeline, its rows and its batch while the batch is at the provider."""

import time

import psycopg
import pytest

from tests.fixtures.breakpoints import commit_of
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, shown, status_of
from tests.integration.batches.lane import HURRY, WORK, batches, create, state, steps, through

pytestmark = pytest.mark.shared_database

ROWS = 30
OVERDUE = "UPDATE embed.batch SET deadline = clock_timestamp() - interval '1 second'"
OF_THE_JOBS = "UPDATE embed.job SET ready_at = clock_timestamp() WHERE batch > 0"


@pytest.fixture
def sent(connect, db, lane):
    """A batch that the provider has and does not end; returns the worker."""
    lane.auto = False
    worker = connect()
    create(db)
    steps(db, worker, "submitted")
    return worker


def finish(lane):
    lane.finish()
    lane.auto = True


def test_after_the_deadline_everything_goes_by_requests(db, lane, sent):
    db.execute(OVERDUE)
    db.execute(OF_THE_JOBS)
    sent.execute(WORK)
    assert_as_source(db)
    assert (state(db), lane.sent.total()) == ("expired", ROWS)
    assert "deadline" in state(db, "last_error")
    assert lane.counts["cancel"] == 1


def test_a_late_answer_harms_nothing(db, lane, sent):
    db.execute(OVERDUE)
    db.execute(OF_THE_JOBS)
    sent.execute(WORK)
    before = shown(db)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    finish(lane)
    through(db, sent)
    assert_as_source(db)
    assert {key: found for key, found in shown(db).items() if key != 1} == {k: f for k, f in before.items() if k != 1}
    assert lane.files == {}
    assert db.execute("SELECT count(*) FROM embed.batch_text").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed.cache WHERE NOT replaced").fetchone() == (0,)


def test_a_late_answer_is_used_where_rows_still_wait(db, lane, sent):
    """Requests failed meanwhile."""
    lane.answer = lambda _: (500, b"out of order")
    db.execute(OVERDUE)
    db.execute(OF_THE_JOBS)
    sent.execute(WORK)
    assert shown(db) == {}
    lane.batches[state(db, "remote_id")].state = "running"  # it was too late to cancel it
    finish(lane)
    lane.answer = None
    for _ in range(3):
        db.execute(HURRY)
        db.execute("SELECT setval(format('embed.endpoint_%s_rests_until', id)::regclass, 1) FROM embed.endpoint")
        sent.execute("CALL embed_work(until_idle => true, max_runtime => '3 s')")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    through(db, sent)
    assert_as_source(db)
    assert not lane.paid_twice


def test_a_cancelled_batch(db, lane, sent):
    number = state(db, "id")
    assert db.execute("SELECT embed_batch_cancel(%s)", (number,)).fetchone() == (ROWS,)
    assert state(db) == "cancelled"
    sent.execute(WORK)
    assert_as_source(db)
    assert lane.counts["cancel"] == 1
    finish(lane)
    through(db, sent)
    assert lane.files == {}
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is over"):
        db.execute("SELECT embed_batch_cancel(%s)", (number,))
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("SELECT embed_batch_cancel(12345)")


def test_a_batch_that_was_not_sent_is_cancelled_without_a_call(connect, db, lane):
    worker = connect()
    create(db)
    worker.execute(WORK)
    assert state(db) == "preparing"
    assert db.execute("SELECT embed_batch_cancel(%s)", (state(db, "id"),)).fetchone() == (ROWS,)
    through(db, worker)
    assert_as_source(db)
    assert lane.counts["upload"] + lane.counts["create"] + lane.counts["cancel"] == 0


def test_forgetting_a_row_reaches_the_batch(connect, db, lane, sent):
    session, said = connect(), []
    session.add_notice_handler(lambda notice: said.append(notice.message_primary))
    with session.transaction():
        session.execute("""SELECT embed_forget('docs', '[4]')""")
        session.execute("DELETE FROM docs WHERE id = 4")
    assert f"batch {state(db, 'id')} has it at the provider" in said[0]
    assert db.execute("SELECT count(*) FROM embed.batch_text WHERE text LIKE '%text 4'").fetchone() == (0,)
    finish(lane)
    through(db, sent)
    assert_as_source(db)
    assert 4 not in shown(db)
    assert db.execute("SELECT count(*) FROM embed.cache").fetchone() == (0,)
    assert lane.files == {}


def test_a_forgotten_row_is_not_sent(connect, db, lane):
    worker = connect()
    create(db)
    worker.execute(WORK)
    db.execute("DELETE FROM docs WHERE id = 4")
    db.execute("""SELECT embed_forget('docs', '[4]')""")
    through(db, worker)
    assert {text for _, text in lane.billed} == {f"title\n\ntext {i}" for i in range(1, ROWS + 1) if i != 4}


def test_a_paused_pipeline_sends_no_batch_and_collects_what_it_paid_for(connect, db, lane):
    worker = connect()
    create(db)
    worker.execute(WORK)
    db.execute("SELECT embed_pause('docs')")
    db.execute(HURRY)
    worker.execute(WORK)
    assert lane.counts["upload"] == 0
    db.execute("SELECT embed_resume('docs')")
    lane.auto = False
    steps(db, worker, "submitted")
    db.execute("SELECT embed_pause('docs')")
    db.execute("SELECT embed_setting('cache_retention', '1 second')")
    finish(lane)
    steps(db, worker, "done")
    assert state(db, "succeeded") == ROWS
    assert shown(db) == {}
    db.execute("UPDATE embed.cache SET kept_at = kept_at - interval '1 day'")
    worker.execute("CALL embed_work(max_runtime => '0.5 s')")  # maintenance runs first
    db.execute("SELECT embed_resume('docs')")
    through(db, worker)
    assert_as_source(db)
    assert lane.sent.total() == 0
    db.execute("SELECT embed_setting('cache_retention', '30 days')")


def test_a_dropped_pipeline(db, lane, sent):
    db.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT count(*) FROM embed.batch_text").fetchone() == (0,)
    sent.execute(WORK)
    assert lane.counts["cancel"] == 1
    finish(lane)
    through(db, sent)
    assert lane.files == {}
    assert db.execute("SELECT pipeline, state FROM embed_batches").fetchall() == [(None, "cancelled")]


def test_a_retired_generation(connect, db, lane):
    worker = connect()
    create(db, backfill_via="requests")
    through(db, worker)
    lane.auto = False
    db.execute("""SELECT embed_alter('docs', '{"backfill_via": "batch"}')""")
    db.execute("SELECT embed_build('docs', template => 'now: $title $body')")
    steps(db, worker, "submitted")
    db.execute("SELECT embed_retire('docs', (SELECT generation FROM embed_generations WHERE state = 'building'))")
    finish(lane)
    through(db, worker)
    assert state(db) == "done"  # the model is the active generation's, too, whose rows may want these texts
    assert_as_source(db)
    assert lane.files == {}


def test_altered_to_requests(connect, db, lane):
    """What was not sent goes by requests; what was sent is waited for, because it is paid for."""
    worker = connect()
    create(db)
    worker.execute(WORK)
    assert state(db) == "preparing"
    db.execute("""SELECT embed_alter('docs', '{"backfill_via": "requests"}')""")
    assert batches(db) == []
    through(db, worker)
    assert_as_source(db)
    assert (lane.counts["upload"], lane.sent.total()) == (0, ROWS)


def test_altered_to_requests_after_it_was_sent(db, lane, sent):
    db.execute("""SELECT embed_alter('docs', '{"backfill_via": "requests"}')""")
    sent.execute(WORK)
    assert shown(db) == {}
    finish(lane)
    through(db, sent)
    assert_as_source(db)
    assert lane.sent.total() == 0


def test_a_check_of_all_rows_sends_nothing_twice(db, lane, sent):
    db.execute("SELECT embed_backfill('docs')")
    sent.execute(WORK)
    finish(lane)
    through(db, sent)
    assert_as_source(db)
    assert lane.sent.total() == 0


ANOTHER_MODEL_MEANWHILE = """
INSERT INTO embed.model_watch (model, epoch) SELECT id, 1 FROM embed.model WHERE name = 'loop'
ON CONFLICT (model) DO UPDATE SET epoch = embed.model_watch.epoch + 1
"""


def test_vectors_of_another_model_are_not_used(db, lane, sent):
    """The watch found that another model is served, and the first one again, while the batch was out."""
    db.execute(ANOTHER_MODEL_MEANWHILE)
    finish(lane)
    through(db, sent)
    assert_as_source(db)
    assert lane.sent.total() == ROWS
    assert "model changed" in state(db, "last_error")


def test_a_batch_whose_vectors_could_not_be_used_is_not_sent(connect, db, lane, stoppable):
    """The watch found another model between the moment when its texts were fixed and the upload."""
    create(db)
    stop = stoppable()
    while not stop.parked(WORK, commit_of("batch seal"), "after"):
        stop.let_go()
        db.execute(HURRY)
    db.execute(ANOTHER_MODEL_MEANWHILE)
    stop.let_go()
    through(db, connect())
    assert_as_source(db)
    assert (lane.counts["upload"], lane.sent.total()) == (0, ROWS)
    assert "model changed before" in state(db, "last_error")


def test_an_endpoint_without_batches_any_more(db, lane, sent):
    db.execute("SELECT embed_endpoint_set('loop', %s)", (lane.url,))
    through(db, sent)
    assert_as_source(db)
    assert (state(db), lane.sent.total()) == ("failed", ROWS)
    assert "no batch API" in state(db, "last_error")
    finish(lane)


def test_a_day_s_budget_is_charged_at_the_lower_price(connect, db, lane):
    """Room for ten texts of three tokens, at half of 1 a token; the others wait for the next day."""
    worker = connect()
    create(db, daily_cost=20)
    estimates = db.execute("SELECT texts, tokens FROM embed_estimate('docs')").fetchone()
    each = estimates[1] / estimates[0] / 2
    until = time.monotonic() + 60
    while not batches(db) or batches(db)[0][1] != "done":
        worker.execute(WORK)
        db.execute(HURRY + " AND NOT (is_full AND sealed_at IS NULL)")
        assert time.monotonic() < until, batches(db)
    assert lane.sent.total() == 0
    assert len(lane.billed) == int(20 // each)
    assert status_of(db, "state") in {"active", "over budget"}
    (spent,) = db.execute("SELECT sum(cost) FROM embed_usage").fetchone()
    assert spent <= 20
    db.execute("SELECT embed_alter('docs', '{\"daily_cost\": null}')")
    through(db, worker)
    assert_as_source(db)
    assert not lane.paid_twice


def test_others_see_nothing_of_a_batch(connect, db, lane, sent):
    db.execute("DROP ROLE IF EXISTS stranger")
    db.execute("CREATE ROLE stranger")
    try:
        db.execute("SET ROLE stranger")
        assert batches(db) == []
        with pytest.raises(psycopg.errors.UndefinedObject):
            db.execute("SELECT embed_batch_cancel(1)")
    finally:
        db.execute("RESET ROLE")
        db.execute("DROP ROLE stranger")
    finish(lane)
    drain_all(db)


def test_a_row_that_was_locked_when_its_batch_ended_is_not_left_behind(connect, db, lane, sent):
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM embed.job WHERE key = '[3]' FOR UPDATE")
    finish(lane)
    steps(db, sent, "done")
    sent.execute(WORK)
    assert set(shown(db)) == {i for i in range(1, ROWS + 1) if i != 3}
    holder.rollback()
    through(db, sent)
    assert_as_source(db)
    assert lane.sent.total() == 0


def test_the_doctor_knows_batches_that_went_wrong(connect, db, lane, doctor):
    lane.fault.outcome = "failed"
    lane.fault.invalid = [(1, "invalid", "the model is not there")]
    create(db)
    through(db, connect())
    assert f"batch {state(db, 'id')} of pipeline docs failed" in doctor.one("batch")["message"]
