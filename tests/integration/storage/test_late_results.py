"""The source moves on while a batch is at the model: no orphan stays, and no late result covers a newer one."""

import threading

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, stale_keys, status_of
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.slow

CALLS = {
    "drain": "SELECT embed_drain()",
    # No until_empty: the first finish is to be looked at before the worker comes round again.
    "work": "CALL embed_work(max_runtime => '20 s')",
}


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    return "docs"


def stored(db):
    """Keys that have a chunk, whether the view shows it or not."""
    generation = db.execute("SELECT id FROM embed.generation").fetchone()[0]
    return {row[0] for row in db.execute(f"SELECT (key ->> 0)::int FROM embed_store.g{generation}").fetchall()}


def waiting(db):
    """Rows that a worker has or that wait for one, at one moment."""
    return status_of(db, "pending + in_flight")


@pytest.fixture
def at_the_model(connect, provider):
    """Starts a worker and returns it when its batch is at the model, which is held."""

    def start(call):
        provider.hold()
        work = Background(connect(), CALLS[call])
        provider.wait_for_requests()
        return work

    return start


MOVES = {
    "deleted, key changed, text taken away": (
        [
            "DELETE FROM docs WHERE id <= 3",
            "UPDATE docs SET id = id + 100 WHERE id IN (4, 5)",
            "UPDATE docs SET title = NULL, body = '' WHERE id = 6",
        ],
        {7, 8, 9, 10, 104, 105},
    ),
    "keys swapped": (
        ["UPDATE docs SET id = -id", "UPDATE docs SET id = 11 + id"],
        set(range(1, 11)),
    ),
    "truncated": (["TRUNCATE docs"], set()),
    "truncated and filled": (["TRUNCATE docs", "INSERT INTO docs VALUES (1, 'a', 'new one')"], {1}),
}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("move", "call"),
    [*((move, "drain") for move in MOVES), ("deleted, key changed, text taken away", "work"), ("truncated", "work")],
)
def test_rows_that_went_while_their_batch_was_at_the_model(db, pipeline, provider, at_the_model, call, move):
    statements, left = MOVES[move]
    work = at_the_model(call)
    for statement in statements:
        db.execute(statement)
    provider.release()
    there = {row[0] for row in db.execute("SELECT id FROM docs").fetchall()}
    # Whatever the worker has written by now, the view shows rows of the source only.
    for _ in range(5):
        assert {row[0] for row in db.execute("SELECT id FROM docs_embedding").fetchall()} <= there
    if call == "drain":
        work.result()
        assert set(shown(db)) <= there
        drain_once(db)
    else:
        wait_until(lambda: waiting(db) == 0 and stored(db) == left, what="an empty queue")
    assert_as_source(db)
    assert stored(db) == left


@pytest.mark.parametrize("call", CALLS)
def test_a_row_that_changed_while_its_batch_was_at_the_model(connect, db, pipeline, provider, at_the_model, call):
    """The first finish writes what it has and leaves the row pending and stale; the next one makes it fresh."""
    work = at_the_model(call)
    db.execute("UPDATE docs SET body = 'newer' WHERE id = 1")
    gate = threading.Event()
    provider.answer = lambda texts: gate.wait(30) and None if any("newer" in text for text in texts) else None
    provider.release()
    wait_until(lambda: len(shown(db)) == 10, what="the first batch in the view")
    assert shown(db)[1][0] == "title 1\n\nbody 1"
    assert stale_keys(db) == [1]
    assert waiting(db) == 1
    gate.set()
    if call == "drain":
        work.result()
        assert drain_once(db) == 1
    else:
        wait_until(lambda: stale_keys(db) == [], what="the newer text in the view")
    assert_as_source(db)
    assert provider.sent.total() == 11


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_rows_that_were_truncated_while_their_drain_was_left_open(connect, db, pipeline, end):
    """A search for documents without a row cannot see those of the open drain yet."""
    drain_all(db)
    db.execute("INSERT INTO docs VALUES (11, 'brand', 'new')")
    session = connect()
    session.execute("BEGIN")
    assert drain_once(session) == 1
    db.execute("TRUNCATE docs")
    db.execute("INSERT INTO docs VALUES (12, 'after', 'all of it')")
    drain_all(db)
    assert 12 in shown(db)
    session.execute(end)
    drain_all(db)
    assert_as_source(db)
    assert stored(db) == {12}


def test_a_worker_goes_on_beside_a_drain_that_has_seen_a_truncate(connect, db, pipeline):
    drain_all(db)
    db.execute("TRUNCATE docs")
    session = connect()
    session.execute("BEGIN")
    assert drain_once(session) == 10
    db.execute("INSERT INTO docs VALUES (12, 'after', 'all of it')")
    work = Background(connect(), CALLS["work"])
    wait_until(lambda: 12 in shown(db), timeout=10, what="the row in the view")
    session.execute("COMMIT")
    wait_until(lambda: waiting(db) == 0, what="an empty queue")
    assert work.running
    assert_as_source(db)
    assert stored(db) == {12}


def out_of_time(db):
    """Every lease has run out."""
    db.execute("UPDATE embed.lease SET expires_at = clock_timestamp() - interval '1 s'")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp() - interval '1 s'")


def test_a_result_whose_lease_ran_out_does_not_cover_a_newer_one(connect, db, pipeline, provider):
    """A worker was so slow that its time was up; it comes back after a second one, while a third has the row."""
    drain_all(db)
    gates = {"old": threading.Event(), "latest": threading.Event()}

    def answer(texts):
        for word, gate in gates.items():
            if any(word in text for text in texts):
                gate.wait(30)

    provider.answer = answer
    provider.reset()
    db.execute("UPDATE docs SET body = 'old' WHERE id = 1")
    slow = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests(1)
    out_of_time(db)
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    # The slow worker looks for work while it waits: it may be the one that takes the row.
    wait_until(lambda: drain_once(db) is not None and shown(db)[1][0] == "title 1\n\nnew", what="the newer text")
    db.execute("UPDATE docs SET body = 'latest' WHERE id = 1")
    third = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests(3)
    gates["old"].set()
    # It is kept beside what the row had at first; or else it is shown.
    kept = "SELECT count(*) FROM embed.cache"
    wait_until(
        lambda: db.execute(kept).fetchone() == (2,) or shown(db)[1][0] != "title 1\n\nnew", what="the late result"
    )
    assert shown(db)[1][0] == "title 1\n\nnew"
    gates["latest"].set()
    slow.result()
    third.result()
    assert_as_source(db)
    # What came late was paid for: it is kept, and going back to it costs nothing.
    provider.reset()
    db.execute("UPDATE docs SET body = 'old' WHERE id = 1")
    drain_all(db)
    assert_as_source(db)
    assert provider.requests == []


def test_a_result_whose_lease_ran_out_does_not_bring_a_deleted_row_back(connect, db, pipeline, provider):
    drain_all(db)
    gate = threading.Event()
    provider.answer = lambda texts: gate.wait(30) and None if any("old" in text for text in texts) else None
    provider.reset()
    db.execute("UPDATE docs SET body = 'old' WHERE id = 1")
    slow = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    out_of_time(db)
    db.execute("DELETE FROM docs WHERE id = 1")
    wait_until(lambda: drain_once(db) + 1 and 1 not in stored(db), what="the row's end")
    gate.set()
    slow.result()
    assert_as_source(db)
    assert 1 not in stored(db)
