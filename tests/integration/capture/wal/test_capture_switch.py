"""embed_capture_set while writers write: no change is lost, and nothing is embedded that did not change."""

import threading

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.roles import people
from tests.fixtures.stress import Writers, left, make_docs, seed_of
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.wal import capture_of, published, slots, triggers, work, work_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

ORDER = ["cdc", "trigger", "cdc", "manual", "cdc", "trigger"]


def test_there_and_back_under_writers(connect, db, model, provider):
    """Each is captured by one or the other; a text is sent once as long as it stands somewhere."""
    seed = seed_of("switch")
    make_docs(db, 60)
    work(db)
    sent = set(provider.sent)
    over = threading.Event()
    worker = Background(connect(), "CALL embed_work(max_runtime => '60 s')")
    with Writers(connect, seed, sessions=4, saves=150, rows=60) as writers:
        for capture in ("cdc", "trigger", "cdc"):
            db.execute("SELECT embed_capture_set('docs', %s)", (capture,))
            wait_until(lambda capture=capture: capture_of(db) == capture, what=capture)
    over.set()
    assert worker.running
    db.execute("SELECT pg_cancel_backend(%s)", (worker.pid,))
    with pytest.raises(psycopg.errors.QueryCanceled):
        worker.result()
    work(db)
    assert_as_source(db)
    assert left(db) == {}
    assert capture_of(db) == "cdc"
    assert set(provider.sent) - sent <= writers.written
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def test_every_way_to_switch(db, docs, model, provider):
    """Nothing is embedded again but what was changed; by hand, what was changed before is found all the same."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    work(db)
    before = "trigger"
    for number, capture in enumerate(ORDER):
        provider.reset()
        db.execute("UPDATE docs SET body = %s WHERE id = 1", (f"{number} before",))
        db.execute("SELECT embed_capture_set('docs', %s)", (capture,))
        db.execute("UPDATE docs SET body = %s WHERE id = 2", (f"{number} after",))
        if capture == "manual":
            db.execute("SELECT embed_touch('docs', '2')")
        work_until(db, "docs", capture)
        assert_as_source(db)
        assert triggers(db) == (4 if capture == "trigger" else 0)
        assert provider.sent == {f"title 1\n\n{number} before": 1, f"title 2\n\n{number} after": 1}, (before, capture)
        before = capture
    assert (slots(db), published(db)) == ([], [])


def test_a_switch_that_is_taken_back_at_once(db, pipeline, provider):
    for capture in ("trigger", "cdc", "manual", "trigger", "cdc"):
        db.execute("SELECT embed_capture_set('docs', %s)", (capture,))
        db.execute("UPDATE docs SET body = 'while ' || %s WHERE id = 1", (capture,))
    work_until(db, "docs", "cdc")
    assert_as_source(db)
    assert triggers(db) == 0


def test_a_switch_that_is_rolled_back(connect, db, pipeline, provider):
    session = connect(autocommit=False)
    session.execute("SELECT embed_capture_set('docs', 'trigger')")
    session.rollback()
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    work(db)
    assert_as_source(db)
    assert (capture_of(db), triggers(db)) == ("cdc", 0)


def test_a_switch_to_what_it_is_says_so_and_nonsense_is_refused(db, pipeline):
    notices = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    db.execute("SELECT embed_capture_set('docs', 'cdc')")
    assert notices == ['pipeline "docs" has capture cdc already, skipping']
    for capture in ("magic", "", None):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            db.execute("SELECT embed_capture_set('docs', %s)", (capture,))


def test_only_who_owns_the_source_may(connect, db, pipeline):
    people(db)
    with pytest.raises(psycopg.errors.UndefinedObject):
        connect("bob").execute("SELECT embed_capture_set('docs', 'trigger')")
    db.execute("GRANT SELECT ON docs TO bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connect("bob").execute("SELECT embed_capture_set('docs', 'trigger')")
    db.execute("ALTER TABLE docs OWNER TO bob")
    bob = connect("bob")
    bob.execute("SELECT embed_capture_set('docs', 'trigger')")
    bob.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    bob.execute("SELECT embed_capture_set('docs', 'cdc')")
    worker = connect("the_worker")
    work(worker)
    assert capture_of(db) == "cdc"
    bob.execute("UPDATE docs SET body = 'read by a worker without rights' WHERE id = 2")
    bob.execute("ALTER TABLE docs REPLICA IDENTITY NOTHING")
    bob.execute("DELETE FROM docs WHERE id = 3")
    work(worker)
    assert_as_source(db)


def test_a_pipeline_that_is_dropped_takes_slot_and_publication_with_it(db, pipeline):
    db.execute("SELECT embed_drop('docs')")
    assert published(db) == []
    db.execute("ALTER TABLE docs REPLICA IDENTITY NOTHING")
    db.execute("UPDATE docs SET body = 'unwatched'")
    work(db)
    assert slots(db) == []
    assert db.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)


def test_a_source_that_is_dropped(db, pipeline):
    db.execute("DROP TABLE docs")
    work(db)
    assert db.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
    db.execute("SELECT embed_drop('docs')")
    work(db)
    assert slots(db) == []
