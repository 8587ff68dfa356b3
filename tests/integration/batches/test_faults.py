"""What a provider may do with a batch: every row is embedded all the same, and no text is paid for twice."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, status_of
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.providers.batches.remote import Refusal
from tests.fixtures.stress import often
from tests.fixtures.waiting import Background
from tests.integration.batches.lane import WORK, batches, create, state, steps, through

pytestmark = pytest.mark.shared_database

ROWS = 30
#: All of them go through test_history.py; their own faults are those of tests/unit/embedding/batches.
FORMATS = often(SERVERS, "openai")


def text(number):
    return f"title\n\ntext {number}"


def end(db):
    """State, succeeded and failed of the only batch."""
    ((_, ended, _, succeeded, failed, _),) = batches(db)
    return ended, succeeded, failed


@pytest.mark.parametrize("api", FORMATS, indirect=True)
@pytest.mark.parametrize("where", often(["status", "hidden"], "hidden"))
def test_texts_that_fail_go_by_requests(connect, db, lane, where):
    """In the file of errors, or in the output of a batch that says that none failed."""
    setattr(lane.fault, where, lambda one: 500 if one in {text(3), text(7)} else None)
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert end(db) == ("done", ROWS - 2, 2)
    assert set(lane.sent) == {text(3), text(7)}
    assert "500" in state(db, "last_error")
    if where == "status":
        assert not lane.paid_twice


@pytest.mark.parametrize("api", FORMATS, indirect=True)
def test_a_batch_that_expires_with_a_part_of_its_results(connect, db, lane):
    lane.fault.outcome = "expired"
    create(db)
    through(db, connect())
    assert_as_source(db)
    ended, succeeded, _ = end(db)
    assert ended in {"expired", "done"}  # Gemini's run to their end
    assert lane.sent.total() == ROWS - succeeded
    assert not lane.paid_twice


@pytest.mark.parametrize("api", FORMATS, indirect=True)
def test_a_file_that_is_refused(connect, db, lane):
    lane.fault.outcome = "failed"
    lane.fault.invalid = [(1, "invalid", "the model is not there")]
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert end(db)[:2] == ("failed", 0)
    assert state(db, "last_error")
    assert lane.sent.total() == ROWS
    assert not lane.paid_twice


@pytest.mark.parametrize("kind", ["upload", "create"])
def test_a_lost_answer(connect, db, lane, kind):
    """What was done is found and taken, not done again."""
    lane.fault.lose[kind] = 1
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert lane.counts[kind] == 1
    assert end(db) == ("done", ROWS, 0)
    assert not lane.paid_twice
    assert lane.files == {}


@pytest.mark.parametrize("kind", often(["upload", "create", "get", "content", "delete"], "create"))
def test_a_busy_provider_is_asked_again(connect, db, lane, kind):
    lane.fault.refuse[kind] = [Refusal(429), Refusal(503)]
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert end(db) == ("done", ROWS, 0)
    assert lane.sent.total() == 0
    assert not lane.paid_twice


def test_retry_after_is_obeyed(connect, db, lane):
    worker = connect()
    lane.auto = False
    create(db)
    steps(db, worker, "submitted")
    lane.fault.refuse["get"] = [Refusal(429, {"retry-after": "1800"})]
    db.execute("UPDATE embed.batch SET next_at = clock_timestamp()")
    worker.execute(WORK)
    wait = "SELECT next_at - clock_timestamp() BETWEEN '25 minutes' AND '31 minutes' FROM embed.batch"
    assert db.execute(wait).fetchone() == (True,)
    lane.finish()


@pytest.mark.parametrize("kind", often(["upload", "create"], "create"))
def test_a_provider_that_refuses_batches(connect, db, lane, kind):
    """The rows go by requests, and the next history does, too, for an hour."""
    worker = connect()
    lane.fault.refuse[kind] = [Refusal(400, {}, "no batches for you")] * 9
    create(db)
    through(db, worker)
    assert_as_source(db)
    assert end(db) == ("failed", 0, 0)
    assert lane.sent.total() == ROWS
    refused = lane.counts[kind]
    db.execute("SELECT embed_build('docs', template => 'now: $body')")
    through(db, worker)
    assert lane.counts[kind] == refused
    assert lane.sent.total() == 2 * ROWS


@pytest.mark.parametrize("how", often(["with an error", "silently"], "silently"))
def test_a_download_that_breaks_is_taken_up(connect, db, lane, how):
    lane.fault.truncate, lane.fault.silently = 0.6, how == "silently"
    worker = connect()
    create(db)
    steps(db, worker, "collecting")
    worker.execute(WORK)
    first = state(db, "succeeded")
    assert 0 < first < ROWS
    lane.fault.truncate = None
    through(db, worker)
    assert_as_source(db)
    assert end(db) == ("done", ROWS, 0)
    assert lane.sent.total() == 0
    assert db.execute("SELECT sum(texts) FROM embed_usage").fetchone() == (ROWS,)


def test_an_output_that_is_gone(connect, db, lane):
    lane.fault.gone = True
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert end(db) == ("failed", 0, 0)
    assert lane.sent.total() == ROWS


def test_results_in_another_order_and_of_other_texts(connect, db, lane):
    lane.fault.backwards = True
    lane.fault.extra = [b'{"custom_id": "00ff"}\n', b"no json\n"]
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert end(db)[:2] == ("done", ROWS)


def test_vectors_that_are_none_go_by_requests(connect, db, lane):
    lane.fault.item = lambda one, vector: vector[:3] if one == text(5) else vector
    create(db)
    through(db, connect())
    lane.fault.item = lambda _, vector: vector
    assert_as_source(db)
    assert end(db) == ("done", ROWS - 1, 1)
    assert set(lane.sent) == {text(5)}


def test_four_workers_at_once(connect, db, lane):
    create(db)
    sessions = [connect() for _ in range(4)]
    while db.execute("SELECT NOT EXISTS (SELECT FROM embed.batch WHERE is_clean)").fetchone() == (True,):
        for work in [Background(session, WORK) for session in sessions]:
            work.result()
        db.execute(
            "UPDATE embed.batch SET added_at = added_at - interval '1 minute',"
            " next_at = CASE WHEN token IS NULL THEN clock_timestamp() ELSE next_at END WHERE NOT is_clean"
        )
    through(db, sessions[0])
    assert_as_source(db)
    assert (lane.counts["upload"], lane.counts["create"]) == (1, 1)
    assert not lane.paid_twice
    assert status_of(db, "failed") == 0
