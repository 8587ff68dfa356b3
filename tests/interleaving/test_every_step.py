"""While a worker stands at each of its steps the world moves on: nobody waits for it, and nothing is lost or paid twice."""

import pytest
from attack import left
from documents import assert_as_source, drain_all, drain_once, source_texts

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
WHEN = ("before", "after")
# A worker's commits while it does one batch: the log folded, the rows claimed, prepared, and written.
COMMITS = (1, 2, 3, 4)

MOVES = {
    "edit": ["UPDATE docs SET body = '{n} again ' || id WHERE id <= 3"],
    "revert": ["UPDATE docs SET body = 'body ' || id WHERE id <= 3"],
    "delete": ["DELETE FROM docs WHERE id <= 2"],
    "delete and insert": ["DELETE FROM docs WHERE id <= 2", "INSERT INTO docs VALUES (1, 'back', '{n}')"],
    "key change": ["UPDATE docs SET id = id + 100 WHERE id <= 2"],
    "keys swapped": [
        "UPDATE docs SET id = -id",
        "UPDATE docs SET id = 4 + id WHERE id >= -3",
        "UPDATE docs SET id = -id WHERE id < 0",
    ],
    "truncate": ["TRUNCATE docs", "INSERT INTO docs VALUES (2, 'after', '{n}')"],
    "drain": ["SELECT embed_drain()"],
    "verify": ["SELECT embed_verify('docs', repair => true)"],
    "pause": [
        "SELECT embed_pause('docs')",
        "UPDATE docs SET body = '{n} paused' WHERE id = 1",
        "SELECT embed_resume('docs')",
    ],
    "backfill": ["SELECT embed_backfill('docs')"],
    "touch": ["SELECT embed_touch('docs', '1', '2', '5')"],
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
    stop = stoppable()
    others = connect(options="-c statement_timeout=5000 -c lock_timeout=2000")
    for where in COMMITS:
        for when in WHEN:
            number = f"{where} {when}"
            texts = fill(db, number)
            provider.reset()
            assert stop.parked(WORK, where, when)
            for statement in MOVES[move]:
                others.execute(statement.format(n=number))
            ids = {row[0] for row in db.execute("SELECT id FROM docs").fetchall()}
            assert {row[0] for row in db.execute("SELECT id FROM docs_embedding").fetchall()} <= ids
            others.execute("SELECT embed_drain()")
            texts |= set(source_texts(db).values())
            stop.let_go()
            drain_all(db)
            assert_as_source(db)
            drain_once(db)
            assert left(db) == {}, stop.stopped_at
            assert set(provider.sent) <= texts
            assert provider.sent.total() == len(provider.sent), stop.stopped_at
