"""Every committed change is in the log, in a job, or fresh, however writers and workers interleave."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, stale_keys, status_of
from tests.fixtures.waiting import Background

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
KEYS = [1, 2, 3]  # one for a writer of each level
CALLS = {
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(max_runtime => '20 s', until_empty => true)",
}


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    return "docs"


@pytest.fixture
def write_late(connect):
    """Opens a transaction of each level, each of which has changed a row of its own and did not commit."""

    def start():
        writers = [connect(options="-c statement_timeout=5000") for _ in LEVELS]
        for key, (writer, level) in enumerate(zip(writers, LEVELS, strict=True), start=1):
            writer.execute(f"BEGIN ISOLATION LEVEL {level}")
            writer.execute("SELECT count(*) FROM docs WHERE id = %s", (key,))  # its snapshot is from before the drain
            writer.execute("UPDATE docs SET body = 'late' WHERE id = %s", (key,))
        return writers

    return start


def assert_shown(db, body):
    assert [shown(db)[key][0] for key in KEYS] == [f"title {key}\n\n{body}" for key in KEYS]


def assert_pending_then_fresh(db):
    """The late changes are known, the view says so, and the next drain makes them good."""
    assert stale_keys(db) == KEYS
    assert status_of(db, "pending") == len(KEYS)
    assert drain_once(db) == len(KEYS)
    assert_shown(db, "late")
    assert_as_source(db)


@pytest.mark.parametrize("call", CALLS)
def test_writers_that_commit_after_the_drain_of_an_older_change(connect, db, pipeline, write_late, call):
    """An 'already queued' answer for a late change would be wrong: its queue row is gone before the writer commits."""
    db.execute("UPDATE docs SET body = 'early' WHERE id = ANY (%s)", (KEYS,))
    writers = write_late()
    connect().execute(CALLS[call])
    assert_shown(db, "early")
    for writer in writers:
        writer.execute("COMMIT")
    assert_pending_then_fresh(db)


@pytest.mark.parametrize("call", CALLS)
def test_writers_that_commit_after_the_batch_with_their_rows(connect, db, pipeline, provider, write_late, call):
    """The jobs of the older changes are at the model when the writers update; they end before the writers commit."""
    db.execute("UPDATE docs SET body = 'early' WHERE id = ANY (%s)", (KEYS,))
    provider.reset()
    provider.hold()
    work = Background(connect(), CALLS[call])
    provider.wait_for_requests()
    writers = write_late()
    assert work.running
    provider.release()
    work.result()
    assert_shown(db, "early")
    for writer in writers:
        writer.execute("COMMIT")
    assert_pending_then_fresh(db)


@pytest.mark.parametrize("call", CALLS)
def test_a_writer_that_commits_while_the_batch_is_at_the_model(connect, db, pipeline, provider, call):
    db.execute("UPDATE docs SET body = 'early' WHERE id = 1")
    provider.reset()
    provider.hold()
    work = Background(connect(), CALLS[call])
    provider.wait_for_requests()
    db.execute("UPDATE docs SET body = 'late' WHERE id = 1")
    assert drain_once(db) == 0  # it may note the change in the job that is at the model, and no more
    provider.release()
    work.result()
    drain_once(db)
    assert_as_source(db)


@pytest.mark.parametrize("captured", ["before the passes", "after the passes"])
def test_an_old_transaction_that_commits_after_many_passes(connect, db, pipeline, captured):
    """Workers remember how far they have read the log: a transaction older than that place is read all the same."""
    writer = connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE docs SET n = n + 1 WHERE id = 1")  # has its transaction id from here on
    if captured == "before the passes":
        writer.execute("UPDATE docs SET body = 'late' WHERE id = 1")
    worker = connect()
    for number in range(5):
        db.execute("UPDATE docs SET body = %s WHERE id > 1", (f"pass {number}",))
        worker.execute(CALLS["work"])
        drain_once(db)
    if captured == "after the passes":
        writer.execute("SAVEPOINT inner_one")
        writer.execute("UPDATE docs SET body = 'late' WHERE id = 1")
        writer.execute("RELEASE inner_one")
    assert stale_keys(db) == []
    writer.execute("COMMIT")
    assert stale_keys(db) == [1]
    worker.execute(CALLS["work"])
    assert_as_source(db)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_places_in_the_log_move_on_once_nobody_old_is_left(connect, db, pipeline, end):
    """An old transaction holds the place where workers start to read; when it ends, that place moves on."""

    def floor():
        return int(db.execute("SELECT scan_start::text FROM embed.change_log_state").fetchone()[0])

    writer = connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE docs SET body = 'late' WHERE id = 1")
    own = int(writer.execute("SELECT pg_current_xact_id()::text").fetchone()[0])
    db.execute("UPDATE docs SET body = 'early' WHERE id = 2")
    db.execute(CALLS["work"])
    assert floor() <= own
    writer.execute(end)
    db.execute("UPDATE docs SET body = 'then' WHERE id = 3")
    db.execute(CALLS["work"])
    db.execute("UPDATE docs SET body = 'last' WHERE id = 4")
    db.execute(CALLS["work"])
    assert floor() > own
    assert_as_source(db)
