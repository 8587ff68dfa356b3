"""A worker ends before or after each of its commits for a batch, or in a call: the next one does the rest."""

from itertools import product

import pytest

from tests.fixtures.breakpoints import commit_of
from tests.fixtures.endings import ended
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.stress import often
from tests.fixtures.waiting import Background, wait_until
from tests.integration.batches.lane import HURRY, WORK, batches, create, fill, through

pytestmark = pytest.mark.shared_database

ROWS = 30
STEPS = ("seal", "take", "begin", "upload", "create", "get", "file", "collect", "clean")
WHEN = ("before", "after")
#: Between a call and its commit, where something exists at the provider that nothing here knows of.
FRAGILE = [
    ("openai", *at) for at in [("upload", "before"), ("create", "before"), ("file", "before"), ("file", "after")]
]
STOPS = often(product(SERVERS, STEPS, WHEN), *[("openai", *at) for at in FRAGILE])


def go_on(db, stop, step, when):
    """Let sessions work until one has ended at the step."""
    session = stop()
    while not ended(db, session.start(WORK, commit_of(f"batch {step}"), when, how="terminate")):
        db.execute(HURRY)
        assert db.execute("SELECT count(*) FROM embed.job").fetchone() != (0,) or step == "clean"


@pytest.mark.slow
@pytest.mark.parametrize(("api", "step", "when"), STOPS, indirect=["api"])
def test_a_worker_that_ends_at_any_commit(connect, db, lane, stoppable, step, when):
    create(db)
    go_on(db, stoppable, step, when)
    through(db, connect())
    assert_as_source(db)
    assert lane.sent.total() == 0
    assert not lane.paid_twice
    assert (lane.counts["upload"], lane.counts["create"]) == (1, 1)
    assert [row[1:4] for row in batches(db)] == [("done", ROWS, ROWS)]
    assert db.execute("SELECT sum(texts) FROM embed_usage").fetchone() == (ROWS,)
    assert lane.files == {}
    assert db.execute("SELECT count(*) FROM embed.batch_text").fetchone() == (0,)


@pytest.mark.parametrize("kind", often(["upload", "create", "get", "content"], "create"))
def test_a_worker_that_ends_in_a_call(connect, db, lane, kind):
    """The call comes to its end at the provider."""
    create(db)
    lane.hold_calls(kind)
    doomed = connect()
    work = Background(doomed, WORK)
    while not wait_until(lambda work=work: lane.counts[kind] or -(not work.running), what="the call") > 0:
        work.result()
        db.execute(HURRY)
        work = Background(doomed, WORK)
    db.execute("SELECT pg_terminate_backend(%s)", (doomed.info.backend_pid,))
    assert ended(db, work)
    lane.release_calls(kind)
    through(db, connect())
    assert_as_source(db)
    assert lane.sent.total() == 0
    assert not lane.paid_twice
    assert [row[1:4] for row in batches(db)] == [("done", ROWS, ROWS)]


def test_a_worker_holds_no_transaction_in_a_call(connect, db, lane):
    """Other rows are embedded meanwhile, and no snapshot holds VACUUM back."""
    create(db)
    lane.hold_calls("upload")
    worker = connect()
    worker.execute(WORK)
    db.execute(HURRY)
    work = Background(worker, "CALL embed_work(max_runtime => '20 s', until_empty => true)")
    lane.wait_for_calls("upload")
    db.execute("INSERT INTO docs (id, title, body) VALUES (1000, 'title', 'live')")
    seen = "SELECT EXISTS (SELECT FROM docs_embedding WHERE id = 1000)"
    wait_until(lambda: db.execute(seen).fetchone() == (True,), what="the live row")
    xmin = "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = %s"
    wait_until(lambda: db.execute(xmin, (work.pid,)).fetchone() == (True,), what="no snapshot")
    lane.release_calls("upload")
    work.result()
    through(db, worker)


def test_live_rows_do_not_wait_for_a_call_that_outlasts_the_workers_time(connect, db, lane):
    create(db)
    lane.hold_calls("upload")
    worker = connect()
    worker.execute(WORK)
    db.execute(HURRY)
    work = Background(worker, "CALL embed_work(max_runtime => '100 ms')")
    lane.wait_for_calls("upload")
    over = "SELECT clock_timestamp() > query_start + interval '200 ms' FROM pg_stat_activity WHERE pid = %s"
    wait_until(lambda: db.execute(over, (work.pid,)).fetchone() == (True,), what="the end of the worker's time")
    db.execute("INSERT INTO docs (id, title, body) VALUES (1000, 'title', 'live')")
    seen = "SELECT EXISTS (SELECT FROM docs_embedding WHERE id = 1000)"
    wait_until(lambda: db.execute(seen).fetchone() == (True,), what="the live row")
    assert work.running
    lane.release_calls("upload")
    work.result()
    assert (lane.counts["upload"], lane.counts["create"]) == (1, 0)  # its time is up: it begins nothing more
    through(db, worker)
    assert_as_source(db)


@pytest.mark.stress
@pytest.mark.parametrize("api", SERVERS, indirect=True)
def test_twenty_thousand_rows_with_faults_and_ends(connect, db, lane, stoppable):
    rows = 20_000
    fill(db, rows)
    lane.fault.lose["create"] = lane.fault.lose["upload"] = 1
    lane.fault.hidden = lambda text: 500 if text.endswith("77") else None
    lane.fault.backwards = True
    create(db, batch_min_texts=1000)
    for step, when in [("take", "after"), ("file", "after"), ("file", "before")]:
        go_on(db, stoppable, step, when)
    db.execute("UPDATE docs SET body = 'live ' || id WHERE id % 1000 = 0")
    lane.fault.truncate = 0.5
    worker = connect()
    worker.execute(WORK)
    lane.fault.truncate = None
    through(db, worker, timeout=600)
    assert_as_source(db)
    assert all(text.endswith("77") for _, text in lane.paid_twice)
