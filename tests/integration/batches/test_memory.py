"""A worker reads a batch's results as they come: 50,000 vectors of 1,536 dimensions are 400 MB of output."""

import pytest

from tests.fixtures.memory_use import Peak
from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.waiting import Background, wait_until
from tests.integration.batches.lane import HURRY, WORK, create, fill, state, steps

MOST = 200  # megabytes


def collect(connect, db, rows, pipeline="docs"):
    """Let a worker take a batch of so many texts through; return its peak, and what live rows waited meanwhile."""
    with SERVERS["openai"](dimensions=1536) as api:
        api.register(db, price=1)
        fill(db, rows, pipeline)
        create(db, pipeline)
        worker = connect()
        with Peak(worker) as peak:
            steps(db, worker, "submitted", timeout=600)
            api.finish()
            db.execute(HURRY)
            work = Background(worker, WORK.replace("30 s", "1200 s"))
            wait_until(lambda: state(db, "succeeded") > 0, timeout=60, what="the first results")
            db.execute(f"INSERT INTO {pipeline} (id, title, body) VALUES (0, 'title', 'live')")
            wait_until(lambda: work.running is False or is_there(db), timeout=60, what="the live row")
            assert is_there(db)
            work.result(timeout=1200)
            while status_of(db, "pending"):
                worker.execute(WORK)
                db.execute(HURRY)
        assert state(db, "succeeded") == rows
        assert api.sent.total() == 1
    return peak.most


def is_there(db):
    return db.execute("SELECT EXISTS (SELECT FROM docs_embedding WHERE id = 0)").fetchone() == (True,)


def test_results_are_never_in_memory_as_a_whole(connect, db, docs):
    """3,000 vectors are 25 MB of output; what a worker needs for any of them is 20 MB more than for none."""
    assert collect(connect, db, 3000) < MOST


@pytest.mark.stress
def test_a_batch_as_large_as_they_get(connect, db, docs):
    most = collect(connect, db, 50_000)
    print(f"{most:.0f} MB")
    assert most < MOST
