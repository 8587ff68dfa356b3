"""Generations that begin, are promoted or go while workers stand at exact steps: no change is lost to any of them."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once
from tests.fixtures.stress import left

pytestmark = pytest.mark.slow

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"


def edit(db, key, body):
    db.execute("UPDATE docs SET body = %s WHERE id = %s", (body, key))


CHUNKED = "SELECT embed_build('docs', chunker => embed_chunk_text(12))"


def stored(db, number):
    """Chunks of a generation by key."""
    query = f"SELECT k1, array_agg(chunk ORDER BY chunk_no) FROM embed_store.g{number} GROUP BY k1"
    return dict(db.execute(query).fetchall())


def test_a_change_folded_by_who_did_not_know_of_the_generation_reaches_it(db, pipeline, stoppable):
    """The worker looked before the generation began; its row was read before the change that is folded now."""
    stop = stoppable()
    edit(db, 1, "edited")
    assert stop.parked(WORK, "coalesce", "before")
    db.execute(CHUNKED)
    drain_once(db)
    assert stored(db, 2)[2] == ["title 2", "body 2"]
    edit(db, 2, "edited late")
    stop.let_go()
    drain_all(db)
    assert stored(db, 1)[2] == ["title 2\n\nedited late"]
    assert stored(db, 2)[2] == ["title 2", "edited late"]
    assert left(db) == {}


def test_a_truncate_seen_by_who_did_not_know_of_the_generation_empties_it(db, pipeline, stoppable):
    stop = stoppable()
    edit(db, 1, "edited")
    assert stop.parked(WORK, "coalesce_scopes", "before")
    db.execute(CHUNKED)
    drain_once(db)
    db.execute("TRUNCATE docs")
    stop.let_go()
    drain_all(db)
    assert stored(db, 1) == stored(db, 2) == {}
    assert left(db) == {}


@pytest.mark.few(2)
@pytest.mark.parametrize("step", ["claim", "finish_unchanged_jobs", "upsert_documents", "clear_failures"])
def test_a_switch_while_a_worker_writes(db, pipeline, stoppable, step):
    db.execute("SELECT embed_build('docs')")
    drain_all(db)
    stop = stoppable()
    edit(db, 1, "edited")
    assert stop.parked(WORK, step, "before")
    db.execute("SELECT embed_promote('docs')")
    edit(db, 2, "edited")
    db.execute("SELECT embed_rollback('docs')")
    db.execute("SELECT embed_rollback('docs')")
    stop.let_go()
    drain_all(db)
    assert_as_source(db)
    db.execute("SELECT embed_rollback('docs')")
    assert_as_source(db)
    assert left(db) == {}


@pytest.mark.parametrize("step", ["claim", "stored_documents"])
def test_a_generation_goes_while_a_worker_has_a_claim_on_it(db, pipeline, stoppable, step):
    db.execute("SELECT embed_build('docs', template => '$body')")
    drain_all(db)
    stop = stoppable()
    edit(db, 1, "edited")
    assert stop.parked(WORK, step, "before", nth=2)  # the second one is of the generation that is being built
    db.execute("SELECT embed_retire('docs', 2)")
    stop.let_go()
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}


CHECKED = "SELECT current_setting('check_function_bodies')"
CHANGES = {
    "build": ("SELECT embed_build('docs', columns => '{title}')", "rows_estimate"),
    "retire": ("SELECT embed_retire('docs', 2)", "set_body_checks"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_truncate_waits_for_no_change_of_generations(connect, db, pipeline, stoppable, change):
    """It stands where all that it has to make is made; and what it set for that does not outlast it."""
    if change == "retire":
        db.execute(CHANGES["build"][0])
        drain_all(db)
    call, step = CHANGES[change]
    stop = stoppable()
    stop.session.execute("BEGIN")
    assert stop.parked(call, step, "after", nth=2 if step == "set_body_checks" else 1)
    truncating = connect(options="-c lock_timeout=1000")
    truncating.execute("TRUNCATE docs")
    stop.let_go()
    assert stop.session.execute(CHECKED).fetchone() == ("on",)
    stop.session.execute("COMMIT")
    drain_all(db)
    db.execute("INSERT INTO docs VALUES (1, 'title', 'body')")
    drain_all(db)
    assert_as_source(db)


def test_two_that_begin_one_at_once(connect, db, pipeline):
    first = connect(autocommit=False)
    first.execute("SELECT embed_build('docs')")
    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        db.execute("SELECT embed_build('docs')")
    assert refused.value.diag.message_hint
    first.commit()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is being built already"):
        db.execute("SELECT embed_build('docs')")


def test_a_build_that_ends_with_its_session_leaves_nothing(connect, db, pipeline):
    before = (
        db.execute("SELECT count(*) FROM pg_class").fetchone(),
        db.execute("SELECT count(*) FROM pg_proc").fetchone(),
    )
    session = connect(autocommit=False)
    session.execute("SELECT embed_build('docs', columns => '{title}')")
    db.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        session.commit()
    edit(db, 1, "edited")
    drain_all(db)
    assert_as_source(db)
    assert db.execute("SELECT count(*) FROM embed_generations").fetchone() == (1,)
    after = (
        db.execute("SELECT count(*) FROM pg_class").fetchone(),
        db.execute("SELECT count(*) FROM pg_proc").fetchone(),
    )
    assert after == before


def test_what_an_open_drain_queued_for_a_generation_that_is_gone_is_cleared_away(connect, db, pipeline):
    db.execute("SELECT embed_build('docs')")
    drain_all(db)
    edit(db, 1, "edited")
    drain = connect(autocommit=False)
    drain.execute("SELECT embed_drain(max_rows => 1)")  # queues the row for both generations, and does it for one
    db.execute("SELECT embed_retire('docs', 2)")
    drain.commit()
    assert db.execute("SELECT count(*) FROM embed.job WHERE generation = 2").fetchone() == (1,)
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}


def test_a_drain_that_meets_a_generation_on_its_way_out_locks_nothing_shared(db, pipeline, stoppable):
    """It saw the generation, and then not its functions: no reason to rebind the pipeline."""
    db.execute("SELECT embed_build('docs')")
    drain_all(db)
    stop = stoppable()
    edit(db, 1, "edited")
    stop.session.execute("BEGIN")
    assert stop.parked("SELECT embed_drain()", "reader_matches_source", "before")
    db.execute("SELECT embed_retire('docs', 2)")
    stop.let_go()
    db.execute("SELECT embed_pause('docs')")
    db.execute("SELECT embed_resume('docs')")
    stop.session.execute("COMMIT")
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
