"""Pausing, resuming and dropping a pipeline while its work is under way."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, status_of
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

CALLS = {
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(max_runtime => '20 s', until_empty => true)",
}


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    return "docs"


def test_a_paused_pipeline_captures_and_does_not_work(db, pipeline, provider):
    drain_all(db)
    provider.reset()
    db.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET body = 'while paused' WHERE id = 1")
    assert drain_once(db) == 0
    assert drain_once(db, "docs") == 0
    assert provider.requests == []
    assert status_of(db, "state") == "paused"
    assert status_of(db, "pending") == 1
    db.execute("SELECT embed_resume('docs')")
    assert drain_once(db) == 1
    assert_as_source(db)


def test_work_until_empty_ends_although_a_paused_pipeline_has_work(connect, db, pipeline, provider):
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    db.execute("INSERT INTO notes VALUES (1, 'a', 'note')")
    db.execute("SELECT embed_pause('docs')")
    work = Background(connect(), CALLS["work"])
    work.result(timeout=10)
    assert_as_source(db, "notes")
    assert shown(db) == {}


@pytest.mark.parametrize("call", CALLS)
def test_pausing_while_a_batch_is_at_the_model_loses_nothing(connect, db, pipeline, provider, call):
    provider.hold()
    work = Background(connect(), CALLS[call])
    provider.wait_for_requests()
    pausing = connect(options="-c statement_timeout=5000")
    pausing.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET body = 'while paused' WHERE id = 1")
    assert work.running
    provider.release()
    # What was at the model is paid for: it is written, and what changed since then waits.
    wait_until(lambda: len(shown(db)) == 10, what="the batch in the view")
    work.result(timeout=10)
    assert drain_once(db) == 0
    db.execute("SELECT embed_resume('docs')")
    drain_all(db)
    assert_as_source(db)
    assert provider.sent.total() == 11


def test_a_worker_notices_that_a_pipeline_was_resumed(connect, db, pipeline):
    db.execute("SELECT embed_pause('docs')")
    session = connect()
    work = Background(session, "CALL embed_work(max_runtime => '30 s')")
    db.execute("SELECT embed_resume('docs')")
    wait_until(lambda: len(shown(db)) == 10, what="ten rows in the view")
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert_as_source(db)


@pytest.mark.slow
def test_a_pipeline_is_dropped_while_a_workers_batch_is_at_the_model(connect, db, pipeline, provider):
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'a', 'note')")
    provider.hold()
    work = Background(connect(), CALLS["work"])
    provider.wait_for_requests()
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    dropping = connect(options="-c statement_timeout=5000")
    dropping.execute("SELECT embed_drop('docs')")
    assert work.running
    provider.release()
    work.result()  # and the worker goes on with what is left
    assert_as_source(db, "notes")
    assert db.execute("SELECT pipeline FROM embed_pipelines").fetchall() == [("notes",)]
    db.execute("UPDATE docs SET body = 'free again'")
    # The vectors that came after the drop were paid for: a new pipeline with the same texts needs no call.
    db.execute("UPDATE docs SET body = 'body ' || id")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    assert_as_source(db)
    assert provider.sent.total() == 11


def test_a_drop_does_not_wait_for_a_drain_and_leaves_everything_when_it_cannot_be(connect, db, pipeline, provider):
    provider.hold()
    work = Background(connect(), CALLS["drain"])
    provider.wait_for_requests()
    dropping = connect(options="-c statement_timeout=5000")
    try:
        dropping.execute("SELECT embed_drop('docs')")
        dropped = True
    except psycopg.errors.LockNotAvailable:
        dropped = False
    assert work.running  # whichever it was, it came back before the model did
    provider.release()
    work.result()
    if not dropped:
        assert_as_source(db)
        db.execute("UPDATE docs SET body = 'still captured' WHERE id = 1")
        drain_all(db)
        assert_as_source(db)
        db.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT count(*) FROM embed_pipelines").fetchone()[0] == 0
    assert db.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'evergreen%'").fetchone()[0] == 0
