"""Retiring: by hand, by the worker after previous_kept, and while a worker still works on it."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.waiting import Background, wait_until


@pytest.fixture
def promoted(db, pipeline):
    db.execute("SELECT embed_build('docs', model => 'short')")
    drain_all(db)
    db.execute("SELECT embed_promote('docs')")


def numbers(db):
    return [row[0] for row in db.execute("SELECT generation FROM embed_generations ORDER BY generation").fetchall()]


def leftovers(db, number):
    """Everything in the catalog that belongs to a generation."""
    rows = sum(
        db.execute(f"SELECT count(*) FROM embed.{table} WHERE generation = %s", (number,)).fetchone()[0]
        for table in ("job", "lease", "backfill_cursor", "failure", "document")
    )
    named = db.execute(
        "SELECT count(*) FROM pg_class WHERE relname ~ %s AND relnamespace = 'embed_store'::regnamespace",
        (f"^g{number}(_|$)",),
    ).fetchone()[0]
    functions = db.execute(
        "SELECT count(*) FROM pg_proc WHERE proname IN (%s, %s)", (f"reader_{number}", f"src_{number}")
    )
    return rows, named, functions.fetchone()[0]


def test_what_is_retired_is_gone_and_edits_are_paid_for_once(db, promoted, provider):
    db.execute("SELECT embed_retire('docs')")
    assert numbers(db) == [2]
    assert leftovers(db, 1) == (0, 0, 0)
    provider.reset()
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain_all(db)
    assert provider.sent == {"title 1\n\nedited": 1}
    assert_as_source(db)


@pytest.mark.slow
def test_a_worker_retires_what_was_kept_long_enough(db, connect, promoted, provider):
    db.execute("SELECT embed_alter('docs', '{\"previous_kept\": \"1 hour\"}')")
    connect().execute("CALL embed_work(until_empty => true)")
    assert numbers(db) == [1, 2]
    db.execute("UPDATE embed.generation SET since = since - interval '61 minutes'")
    connect().execute("CALL embed_work(until_empty => true)")
    assert numbers(db) == [2]
    assert leftovers(db, 1) == (0, 0, 0)
    provider.reset()
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    connect().execute("CALL embed_work(until_empty => true)")
    assert provider.sent == {"title 1\n\nedited": 1}


def test_a_reader_of_the_old_one_keeps_a_worker_from_nothing_else(db, connect, promoted, provider):
    """The reader began before the switch, so it may hold the table that is to go."""
    db.execute("SELECT embed_rollback('docs')")
    reader = connect(autocommit=False)
    reader.execute("SELECT count(*) FROM docs_embedding")
    db.execute("UPDATE embed.generation SET since = since - interval '8 days' WHERE state = 'previous'")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    connect().execute("CALL embed_work(until_empty => true)")
    assert numbers(db) == [1]
    reader.rollback()
    assert_as_source(db)


@pytest.mark.slow
def test_a_worker_whose_generation_goes_goes_on_with_the_others(db, connect, pipeline, provider):
    db.execute("SELECT embed_build('docs', model => 'short')")
    provider.hold()
    worker = connect()
    work = Background(worker, "CALL embed_work(max_runtime => '60 s')")
    provider.wait_for_requests(1)
    db.execute("SELECT embed_retire('docs', 2)")
    assert leftovers(db, 2) == (0, 0, 0)
    provider.release()
    db.execute("UPDATE docs SET body = 'edited'")
    wait_until(
        lambda: db.execute("SELECT count(*) FROM docs_embedding WHERE chunk ~ 'edited'").fetchone() == (10,),
        what="the edits",
    )
    worker.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert_as_source(db)
    assert leftovers(db, 2) == (0, 0, 0)


@pytest.mark.stress  # a lock is tried for a quarter of a minute
def test_an_open_drain_that_works_on_it_is_a_reason_to_refuse(db, connect, pipeline):
    db.execute("SELECT embed_build('docs', model => 'short')")
    drain = connect(autocommit=False)
    drain.execute("SELECT embed_drain()")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        db.execute("SELECT embed_retire('docs', 2)")
    assert numbers(db) == [1, 2]
    drain.commit()
    db.execute("SELECT embed_retire('docs', 2)")
    assert leftovers(db, 2) == (0, 0, 0)
    assert_as_source(db)


def test_the_active_one_stays(db, promoted):
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is the active one"):
        db.execute("SELECT embed_retire('docs', 2)")
    with pytest.raises(psycopg.errors.UndefinedObject, match="has no generation 7"):
        db.execute("SELECT embed_retire('docs', 7)")


def test_a_pipeline_is_dropped_with_all_its_generations(db, promoted):
    db.execute("SELECT embed_build('docs', model => 'new')")
    db.execute("SELECT embed_drop('docs')")
    for number in (1, 2, 3):
        assert leftovers(db, number) == (0, 0, 0)
    assert db.execute("SELECT count(*) FROM pg_proc WHERE pronamespace = 'embed_store'::regnamespace").fetchone() == (
        0,
    )


def test_a_snapshot_from_before_a_retirement_is_searched(db, connect, pipeline):
    """Its catalog has the generation, whose table is gone: nothing is missing from the pipeline."""
    db.execute("SELECT embed_build('docs', model => 'new')")
    drain_all(db)
    session = connect()
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM docs")
    db.execute("SELECT embed_retire('docs', 2)")
    assert len(session.execute("SELECT key FROM embed_search('docs', 'a question')").fetchall()) == 10
    assert session.execute("SELECT embed_query('docs', 'a question')").fetchone()
    session.rollback()
