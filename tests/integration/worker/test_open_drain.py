"""A drain whose transaction is left open keeps nothing from anybody but the keys it claimed."""

from functools import partial

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, rested, shown, source_texts
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORKERS = {
    "drain": "SELECT embed_drain({pipeline})",
    "small drain": "SELECT embed_drain({pipeline}, max_rows => 3)",
    "work": "CALL embed_work({pipeline}, max_runtime => '20 s', until_empty => true)",
}


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    return "docs"


@pytest.fixture
def drained(db, pipeline):
    drain_all(db)
    return pipeline


@pytest.fixture
def open_drain(connect):
    """Leaves a drain's transaction open; returns its session and the number of rows it did."""

    def start(call="embed_drain()"):
        session = connect()
        session.execute("BEGIN")
        return session, session.execute(f"SELECT {call}").fetchone()[0]

    return start


def has_ended(session, work):
    """Cancel the worker and return whether it has ended: PostgreSQL drops a cancel that meets a lock timeout."""
    session.cancel()
    return work.ended(within=1.0)


@pytest.fixture
def fresh_in_time(connect, db):
    """Runs a worker beside the open drain until the view shows these rows as they are in the source."""

    def check(worker, keys, pipeline="docs"):
        # embed_work would look at the open drain's log rows until its time is up: it is cancelled below.
        statement = WORKERS[worker].format(pipeline=f"'{pipeline}'")
        session = connect()
        work = Background(session, statement) if worker == "work" else None

        def are_fresh():
            if work is None:
                session.execute(statement)
            wanted, there = source_texts(db, pipeline), shown(db, pipeline)
            return all(there.get(key, ("",))[0] == wanted[key] for key in keys)

        try:
            wait_until(are_fresh, timeout=10, what=f"rows {keys} of {pipeline}, beside an open drain,")
        finally:
            if work is not None:
                wait_until(partial(has_ended, session, work), what="the end of the worker, which gives its claims up")

    return check


@pytest.mark.parametrize(("worker", "end"), [("drain", "COMMIT"), ("work", "ROLLBACK")])
def test_another_pipeline_goes_on(db, drained, model, open_drain, fresh_in_time, worker, end):
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    db.execute("UPDATE docs SET body = 'claimed ' || id")
    session, done = open_drain()
    assert done == 10
    db.execute("INSERT INTO notes SELECT i, 'note ' || i, 'text ' || i FROM generate_series(1, 5) i")
    fresh_in_time(worker, range(1, 6), "notes")
    session.execute(end)
    drain_all(db)
    assert_as_source(db)
    assert_as_source(db, "notes")


@pytest.mark.parametrize("worker", ["drain", "work"])
def test_live_edits_of_other_keys_go_on(db, drained, open_drain, fresh_in_time, worker):
    db.execute("UPDATE docs SET body = 'claimed' WHERE id = 1")
    session, done = open_drain()
    assert done == 1
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 2")
    db.execute("INSERT INTO docs VALUES (11, 'brand', 'new')")
    fresh_in_time(worker, [2, 11])
    session.execute("COMMIT")
    assert_as_source(db)


@pytest.mark.parametrize(("worker", "end"), [("drain", "COMMIT"), ("small drain", "ROLLBACK"), ("work", "ROLLBACK")])
def test_a_second_edit_of_a_claimed_key_does_not_hold_up_the_others(
    db, drained, open_drain, fresh_in_time, worker, end
):
    """The open drain has queued key 1 and did not commit; the log has key 1 again, in front of all others."""
    db.execute("UPDATE docs SET body = 'claimed' WHERE id = 1")
    session, _ = open_drain()
    db.execute("UPDATE docs SET body = 'claimed, then edited' WHERE id = 1")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 2")
    fresh_in_time(worker, [2])
    session.execute(end)
    drain_all(db)
    assert_as_source(db)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_backfill_goes_on(db, pipeline, open_drain, fresh_in_time, worker):
    """The open drain took the first three keys of the source; where the cursor stands is not its own."""
    session, done = open_drain("embed_drain(max_rows => 3)")
    assert done == 3
    taken = shown(session)
    fresh_in_time(worker, set(range(1, 11)) - set(taken))
    session.execute("ROLLBACK")
    drain_all(db)
    assert_as_source(db)


def test_two_small_drains_take_different_keys(connect, db, drained, open_drain):
    db.execute("UPDATE docs SET body = 'edited ' || id")
    session, done = open_drain("embed_drain(max_rows => 4)")
    assert done == 4
    assert db.execute("SELECT embed_drain(max_rows => 4)").fetchone()[0] == 4
    session.execute("COMMIT")
    drain_all(db)
    assert_as_source(db)


def test_jobs_that_wait_already_are_shared_out(db, pipeline, provider, open_drain):
    provider.answer = lambda _: (503, b"busy")
    drain_once(db)  # leaves ten jobs behind
    provider.answer = None
    rested(db)
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    session, done = open_drain("embed_drain(max_rows => 4)")
    assert done == 4
    assert drain_once(db) == 6
    session.execute("ROLLBACK")
    assert drain_once(db) == 4
    assert_as_source(db)


DDL = [
    "ALTER TABLE docs ADD COLUMN extra int",
    "ALTER TABLE docs ALTER COLUMN body TYPE varchar",
    "ALTER TABLE docs RENAME COLUMN n TO m",
    "ALTER TABLE docs DROP COLUMN m",
    "CREATE INDEX ON docs (title)",
    "TRUNCATE docs",
    "INSERT INTO docs VALUES (1, 'after', 'all of it')",
    "DELETE FROM docs",
    "INSERT INTO docs VALUES (1, 'once', 'more'), (12, 'twice', 'more')",
]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_owner_truncates_and_alters(connect, db, drained, open_drain, end):
    db.execute("UPDATE docs SET body = 'claimed ' || id")
    session, done = open_drain()
    assert done == 10
    owner = connect(options="-c statement_timeout=5000 -c lock_timeout=2000")
    for statement in DDL:
        owner.execute(statement)
    session.execute(end)
    drain_all(db)
    assert_as_source(db)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_repair_goes_around_what_an_open_drain_has_written(db, drained, open_drain, end):
    db.execute("UPDATE docs SET body = 'claimed' WHERE id = 1")
    db.execute("DELETE FROM docs WHERE id = 2")
    session, done = open_drain()
    assert done == 2
    db.execute("UPDATE embed.document SET src_hash = '' WHERE key = '[3]'")
    repair = "SELECT * FROM embed_verify('docs', repair => true)"
    assert dict(db.execute(repair).fetchall()) == {"fresh": 7, "stale": 2, "missing": 0, "orphan": 1, "mixed": 0}
    session.execute(end)
    drain_all(db)
    assert_as_source(db)
