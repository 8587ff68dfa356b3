"""A worker stands still at a step while another one notices the change: nothing of the new model becomes fresh."""

import pytest

from tests.fixtures.breakpoints import STEPS, Stoppable, commit_of
from tests.fixtures.pipelines.documents import status_of, verified
from tests.fixtures.providers.turning import cached_by_model, model_of_vectors, vector_of
from tests.fixtures.waiting import wait_until
from tests.integration.models.watching import every, finish, insert, is_marked, look_once, watch, work, work_until

pytestmark = pytest.mark.slow

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
DRAIN = "SELECT embed_drain()"
#: A drain has no steps: queries before, between and after those that say whether its vectors may be written.
DRAIN_STEPS = [
    ("transaction_id", "before"),
    ("served_epoch", "before"),
    ("served_epoch", "after"),
    ("finish_unchanged_jobs", "after"),
]


ALL_STEPS = [(WORK, *step) for step in STEPS] + [(DRAIN, *step) for step in DRAIN_STEPS]
#: Before the texts are sent, when the vectors are there, and around the commit that makes them fresh.
CLOSEST = [
    (WORK, commit_of("claim"), "after"),
    (WORK, commit_of("finish"), "before"),
    (DRAIN, "served_epoch", "after"),
    (DRAIN, "finish_unchanged_jobs", "after"),
]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("statement", "where", "when"),
    [step if step in CLOSEST else pytest.param(*step, marks=pytest.mark.stress) for step in ALL_STEPS],
)
def test_a_change_at_every_step(db, connect, watched, statement, where, when):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    watched.become("new")
    insert(db, "in between")
    worker = Stoppable(connect(), connect())
    assert worker.parked(statement, where, when)
    every(db, "50 ms")
    wait_until(lambda: work(db) or watch(db) == (2, True))
    every(db, "1 hour")
    worker.let_go()
    work_until(db, "model changed")
    assert "new" not in model_of_vectors(db, "embed_store.g1", watched)
    assert cached_by_model(db, 1, watched) <= {"old"}
    watched.become("old")
    every(db, "50 ms")
    work_until(db, "active")
    finish(db)
    assert set(model_of_vectors(db, "embed_store.g1", watched)) == {"old"}
    assert verified(db)["fresh"] == 11


def test_marking_waits_for_a_transaction_that_may_still_write(db, connect, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    watched.become("new")
    insert(db, "in between")
    worker = Stoppable(connect(), connect())
    assert worker.parked(WORK, commit_of("finish"), "before")
    every(db, "50 ms")
    wait_until(lambda: work(db) or watch(db) == (2, True))
    watched.become("old")
    wait_until(lambda: work(db) or watch(db) == (1, True))
    db.execute("UPDATE docs SET body = 'meanwhile' WHERE id = 1")
    work(db)
    assert not is_marked(db)
    # What is not marked yet could be found for its text, and be written when everything is marked.
    assert not any("meanwhile" in text for text in watched.sent)
    assert status_of(db, "state") == "model changed"
    worker.let_go()
    work_until(db, "active")
    finish(db)
    assert verified(db)["fresh"] == 11
    assert set(model_of_vectors(db, "embed_store.g1", watched)) == {"old"}


def drained(db, session):
    session.execute("SELECT embed_drain()")


def submitted(db, session):
    claimed = db.execute("SELECT token, text, hash FROM embed_claim('docs', 100)").fetchall()
    vectors = [str(vector_of("new", text, 8)) for _, text, _ in claimed]
    session.execute(
        "SELECT embed_submit('docs', %s, %s, %s::text[]::vector[])",
        (claimed[0][0], [text_hash for _, _, text_hash in claimed], vectors),
    )


@pytest.mark.few(1)
@pytest.mark.parametrize("written", [drained, submitted])
def test_an_open_transaction_that_has_written_is_waited_for(db, connect, watched, written):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    watched.become("new")
    insert(db, "in between")
    session = connect(autocommit=False)
    written(db, session)
    every(db, "50 ms")
    wait_until(lambda: work(db) or watch(db) == (2, True))
    watched.become("old")
    wait_until(lambda: work(db) or watch(db) == (1, True))
    work(db)
    assert not is_marked(db)
    session.commit()
    assert model_of_vectors(db, "embed_store.g1", watched)["new"] == ["title\n\nin between"]
    work_until(db, "active")
    finish(db)
    assert verified(db)["fresh"] == 11
    assert set(model_of_vectors(db, "embed_store.g1", watched)) == {"old"}
