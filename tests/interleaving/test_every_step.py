"""While a worker stands at each of its steps the world moves on: nobody waits for it, and nothing is lost or paid twice."""

import psycopg
import pytest
from attack import left
from documents import assert_as_source, drain_all, source_texts, status_of

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
# A worker's commits while it does one batch: the log folded, the rows claimed, prepared, and written. And amid the last.
STEPS = [
    (1, "before"),
    (1, "after"),
    (2, "before"),
    (2, "after"),
    (3, "before"),
    (3, "after"),
    ("lock_jobs", "after"),
    (4, "before"),
    (4, "after"),
]
MOVES = {
    "edited": ["UPDATE docs SET body = '{n} again ' || id WHERE id <= 3"],
    "reverted": ["UPDATE docs SET body = 'body ' || id WHERE id <= 3"],
    "deleted": ["DELETE FROM docs WHERE id <= 2"],
    "deleted and inserted": ["DELETE FROM docs WHERE id <= 2", "INSERT INTO docs VALUES (1, 'back', '{n}')"],
    "keys changed": ["UPDATE docs SET id = id + 100 WHERE id <= 2"],
    "keys swapped": ["UPDATE docs SET id = -id WHERE id <= 3", "UPDATE docs SET id = 4 + id WHERE id < 0"],
    "truncated": ["TRUNCATE docs"],
    "truncated and filled": ["TRUNCATE docs", "INSERT INTO docs VALUES (2, 'after', '{n}')"],
    "repaired": ["SELECT embed_verify('docs', repair => true)"],
    "paused": [
        "SELECT embed_pause('docs')",
        "UPDATE docs SET body = '{n} paused' WHERE id = 1",
        "SELECT embed_drain(max_runtime => '200 ms')",
        "SELECT embed_resume('docs')",
    ],
    "touched and retried": ["SELECT embed_touch('docs', '1', '2', '5')", "SELECT embed_retry('docs')"],
    "altered": ["SELECT embed_alter('docs', '{{\"live_share\": 0.5}}')"],
}


def fill(db, number):
    """Ten rows, of which the first four and one more are new to the pipeline."""
    db.execute("TRUNCATE docs")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
    drain_all(db)
    db.execute("UPDATE docs SET body = %s || id WHERE id <= 4", (f"{number} edit ",))
    db.execute("DELETE FROM docs WHERE id = 10")
    return set(source_texts(db).values())


@pytest.mark.parametrize("move", MOVES)
def test_the_world_moves_on_while_a_worker_stands(connect, db, pipeline, provider, stoppable, move):
    """Another drain comes by as well. What a text costs is the same as if nobody had met anybody."""
    stop = stoppable()
    others = connect(options="-c statement_timeout=5000 -c lock_timeout=2000")
    for where, when in STEPS:
        texts = fill(db, f"{where} {when}")
        provider.reset()
        assert stop.parked(WORK, where, when)
        for statement in MOVES[move]:
            others.execute(statement.format(n=f"{where} {when}"))
        ids = {row[0] for row in db.execute("SELECT id FROM docs").fetchall()}
        assert {row[0] for row in db.execute("SELECT id FROM docs_embedding").fetchall()} <= ids
        others.execute("SELECT embed_drain(max_runtime => '200 ms')")
        texts |= set(source_texts(db).values())
        stop.let_go()
        drain_all(db)
        assert_as_source(db)
        assert left(db) == {}, stop.stopped_at
        assert provider.sent == dict.fromkeys(provider.sent, 1), stop.stopped_at
        assert set(provider.sent) <= texts


def test_a_pipeline_is_dropped_while_a_worker_stands(connect, db, pipeline, provider, stoppable):
    """The drop may be refused for the moment of a write. Nothing is left of it, and what was paid for is not lost."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    stop = stoppable()
    others = connect(options="-c statement_timeout=5000")
    for where, when in STEPS:
        fill(db, f"{where} {when}")
        provider.reset()
        assert stop.parked("CALL embed_work('docs', until_empty => true, max_runtime => '20 s')", where, when)
        try:
            others.execute("SELECT embed_drop('docs')")
        except psycopg.errors.LockNotAvailable as refusal:
            assert refusal.diag.message_hint, stop.stopped_at
            assert status_of(db, "state") == "active"
            stop.let_go()
            others.execute("SELECT embed_drop('docs')")
        else:
            stop.let_go()
        drain_all(db)
        assert left(db) == {}, stop.stopped_at
        assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,), stop.stopped_at
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        drain_all(db)
        assert_as_source(db)
