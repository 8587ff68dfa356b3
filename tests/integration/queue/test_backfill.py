"""embed_backfill: every row is checked, bit by bit; it can be paused and asked for again, and tells how far it is."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, status_of
from tests.fixtures.pipelines.history import MIND, MISS
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
BACKFILL = "SELECT embed_backfill('docs')"
HOW_FAR = "backfill_rows, backfill_progress, backfill_eta IS NOT NULL"


@pytest.fixture
def pipeline(db, docs, model, provider):
    """Ten documents, drained, with the provider's counters at zero."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.reset()
    return "docs"


def how_far(db):
    return db.execute(f"SELECT {HOW_FAR} FROM embed_status").fetchone()


@pytest.mark.parametrize("call", ["drain", "work"])
def test_what_no_trigger_saw_is_found_and_what_is_fresh_costs_no_call(db, pipeline, provider, call):
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'unseen' WHERE id = 3")
    db.execute("INSERT INTO docs VALUES (11, 'unseen', 'too')")
    db.execute("DELETE FROM docs WHERE id = 4")
    db.execute(MIND)
    drain_all(db)
    assert provider.requests == []
    db.execute(BACKFILL)
    drain_all(db) if call == "drain" else db.execute(WORK)
    assert_as_source(db)
    assert provider.sent == {"title 3\n\nunseen": 1, "unseen\n\ntoo": 1}


@pytest.mark.fresh_database
def test_every_generation_is_checked(db, pipeline, provider):
    db.execute("SELECT embed_build('docs', template => '$body')")
    drain_all(db)
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'unseen' WHERE id = 3")
    db.execute(MIND)
    db.execute(BACKFILL)
    drain_all(db)
    for number, text in ((1, "title 3\n\nunseen"), (2, "unseen")):
        assert db.execute(f"SELECT chunk FROM embed_store.g{number} WHERE k1 = 3").fetchone() == (text,)


def test_a_pipeline_without_a_backfill_gets_one_when_it_is_asked_for(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', backfill => false)")
    drain_all(db)
    assert how_far(db) == (None, None, False)
    db.execute(BACKFILL)
    assert how_far(db) == (0, 0.0, False)
    drain_all(db)
    assert how_far(db) == (10, 1.0, False)
    assert_as_source(db)


def test_progress_goes_by_the_rows_that_are_done(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    assert how_far(db) == (0, 0.0, False)
    for done in (4, 8):
        db.execute("SELECT embed_drain(max_rows => 4)")
        assert how_far(db) == (done, done / 10, True)
    db.execute("SELECT embed_pause('docs')")
    assert how_far(db) == (8, 0.8, False)
    db.execute("SELECT embed_resume('docs')")
    drain_all(db)
    assert how_far(db) == (10, 1.0, False)


def test_rows_at_the_model_are_not_done_yet(connect, db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests()
    assert how_far(db)[:2] == (10, 0.0)
    provider.release()
    work.result()
    assert how_far(db)[:2] == (10, 1.0)


def test_the_time_in_which_nobody_works_is_not_reckoned_with(db, docs, model):
    """A row a millisecond, and then no worker for a week."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain(max_rows => 2)")
    week = "interval '1 week'"
    db.execute(f"UPDATE embed.backfill_cursor SET started_at = started_at - {week}, moved_at = moved_at - {week}")
    db.execute("SELECT embed_drain(max_rows => 2)")
    assert status_of(db, "backfill_eta < interval '5 minutes'")


def test_it_is_paused_and_goes_on_where_it_stood(db, pipeline, provider):
    db.execute("TRUNCATE docs")
    drain_all(db)
    db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(1, 40) i")
    db.execute("TRUNCATE embed.change_log")  # now they are unknown
    db.execute(BACKFILL)
    db.execute("SELECT embed_drain(max_rows => 10)")
    db.execute("SELECT embed_pause('docs')")
    for call in ("SELECT embed_drain()", WORK):
        db.execute(call)
    assert provider.sent.total() == 10
    assert how_far(db)[:2] == (10, 0.25)
    db.execute("SELECT embed_resume('docs')")
    db.execute(WORK)
    assert_as_source(db)
    assert provider.sent == dict.fromkeys((f"title\n\ntext {i}" for i in range(1, 41)), 1)


def test_it_never_lies_in_the_queue_as_a_whole(connect, db, docs, provider):
    """However many rows there are, no more are queued than are worked on."""
    provider.register(db, inputs=20, endpoint={"max_in_flight": 2})
    db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(11, 12000) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    queued = "SELECT (SELECT count(*) FROM embed.job) + (SELECT count(*) FROM embed.change_log)"
    assert db.execute(queued).fetchone() == (0,)
    with connect(autocommit=False) as draining:
        draining.execute("SELECT embed_drain(max_rows => 30)")
        assert draining.execute("SELECT count(*) FROM embed.job").fetchone() == (0,)
    provider.hold()
    session = connect()
    work = Background(session, WORK)
    provider.wait_for_requests(4)
    wait_until(lambda: db.execute(queued).fetchone()[0] > 0, what="claims")
    assert db.execute(queued).fetchone()[0] <= 4000  # a claim is 1000 rows
    assert how_far(db)[0] <= 4000
    session.cancel()
    provider.release()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()


def test_asked_again_it_begins_anew_and_says_so(db, pipeline, provider):
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    db.execute(BACKFILL)
    db.execute("SELECT embed_drain(max_rows => 4)")
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'unseen' WHERE id = 1")  # the cursor has passed it
    db.execute(MIND)
    db.execute(BACKFILL)
    assert how_far(db) == (0, 0.0, False)
    db.execute("SELECT embed_pause('docs')")
    db.execute(BACKFILL)
    db.execute("SELECT embed_resume('docs')")
    drain_all(db)
    assert_as_source(db)
    assert heard == [
        "10 rows will be checked; next: SELECT embed_drain('docs')",
        "the backfill under way restarts: 10 rows will be checked; next: SELECT embed_drain('docs')",
        "the backfill under way restarts: 10 rows will be checked; next: SELECT embed_resume('docs')",
    ]
    assert provider.sent == {"title 1\n\nunseen": 1}


def test_it_waits_for_nobody(connect, db, pipeline, provider):
    """A drain is left open in the middle of the walk, and a worker is about to move the cursor."""
    db.execute(BACKFILL)
    draining = connect(autocommit=False)
    draining.execute("SELECT embed_drain(max_rows => 4)")
    holding = connect(autocommit=False)
    holding.execute(
        "SELECT * FROM embed.backfill_cursor, embed.change_log_state FOR UPDATE OF change_log_state SKIP LOCKED"
    )
    asking = connect(options="-c lock_timeout=1000")
    asking.execute(BACKFILL)
    draining.commit()
    holding.rollback()
    drain_all(db)
    assert how_far(db)[:2] == (10, 1.0)
    assert_as_source(db)
    assert provider.requests == []


def test_a_source_that_cannot_be_read_is_named(db, pipeline):
    db.execute("ALTER TABLE docs DROP COLUMN body CASCADE")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot be read") as refused:
        db.execute(BACKFILL)
    assert refused.value.diag.message_hint
