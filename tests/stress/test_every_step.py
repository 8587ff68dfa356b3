"""While a worker is stopped at a step, other sessions continue: none waits for it, nothing is lost or paid twice."""

import pytest

from tests.fixtures.breakpoints import STEPS
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, source_texts
from tests.fixtures.stress import left

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
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
# What others cover nearly as well: run by `make stress`.
LONG_STORIES = {"reverted", "deleted and inserted", "truncated", "altered"}


def fill(db, number):
    """Ten rows, of which the first four and one more are new to the pipeline."""
    db.execute("TRUNCATE docs")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
    drain_all(db)
    db.execute("UPDATE docs SET body = %s || id WHERE id <= 4", (f"{number} edit ",))
    db.execute("DELETE FROM docs WHERE id = 10")
    return set(source_texts(db).values())


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "move", [pytest.param(move, marks=[pytest.mark.stress] if move in LONG_STORIES else []) for move in MOVES]
)
def test_the_world_moves_on_while_a_worker_stands(connect, db, pipeline, provider, stoppable, move):
    """Another drain runs as well. A text costs the same as without any concurrency."""
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
