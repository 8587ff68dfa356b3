"""What the provider has embedded is paid for: it is waited for, not sent again, while it may still be had."""

import time

import pytest

from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.providers.batches.remote import Refusal
from tests.fixtures.stress import often
from tests.integration.batches.lane import HURRY, WORK, batches, create, state, steps, through

pytestmark = pytest.mark.shared_database

ROWS = 30


def look_often(db, worker, api, kind, times):
    """Let a worker make so many calls of a kind."""
    wanted, until = api.counts[kind] + times, time.monotonic() + 60
    while api.counts[kind] < wanted:
        worker.execute(WORK)
        db.execute(HURRY)
        assert time.monotonic() < until, batches(db)


@pytest.mark.parametrize("api", often(SERVERS, "openai"), indirect=True)
def test_a_download_that_keeps_breaking_is_tried_until_the_deadline(connect, db, lane):
    lane.fault.truncate = 0.3
    worker = connect()
    create(db)
    steps(db, worker, "collecting")
    look_often(db, worker, lane, "content", 12)
    assert state(db) == "collecting"
    lane.fault.truncate = None
    through(db, worker)
    assert_as_source(db)
    assert batches(db)[0][1:4] == ("done", ROWS, ROWS)
    assert (lane.sent.total(), lane.paid_twice) == (0, {})


@pytest.mark.parametrize("status", often([401, 403, 500], 401))
@pytest.mark.parametrize("kind", often(["get", "content"], "content"))
def test_a_key_that_is_refused_for_a_while_costs_nothing(connect, db, lane, kind, status):
    worker = connect()
    create(db)
    steps(db, worker, "submitted")
    lane.fault.refuse[kind] = [Refusal(status, {}, "not now")] * 8
    look_often(db, worker, lane, kind, 8)
    assert state(db) in {"submitted", "collecting"}
    assert f"answered {status}" in state(db, "last_error")
    through(db, worker)
    assert_as_source(db)
    assert (lane.sent.total(), lane.paid_twice) == (0, {})


@pytest.mark.parametrize("status", often([401, 500], 500))
def test_files_are_deleted_however_often_that_fails(connect, db, lane, status):
    worker = connect()
    create(db)
    steps(db, worker, "submitted")
    lane.fault.refuse["delete"] = [Refusal(status, {}, "not now")] * 100
    steps(db, worker, "done")
    look_often(db, worker, lane, "delete", 8)
    assert lane.files
    lane.fault.refuse.clear()
    through(db, worker)
    assert_as_source(db)
    assert lane.files == {}


def test_a_batch_that_is_gone_is_not_waited_for(connect, db, lane):
    worker = connect()
    lane.auto = False
    create(db)
    steps(db, worker, "submitted")
    lane.batches.clear()
    through(db, worker)
    assert_as_source(db)
    assert state(db) == "failed"
    assert lane.sent.total() == ROWS


LIMIT = (None, "token_limit_exceeded", "Enqueued token limit reached.")


def test_a_batch_waits_while_another_takes_the_room_of_the_account(connect, db, lane):
    worker = connect()
    lane.auto = False
    create(db)
    steps(db, worker, "submitted")
    first = next(iter(lane.batches))
    db.execute("CREATE TABLE notes AS SELECT id, title, 'note ' || id AS body FROM docs")
    db.execute("ALTER TABLE notes ADD PRIMARY KEY (id)")
    create(db, "notes")
    lane.fault.invalid = [LIMIT]
    look_often(db, worker, lane, "create", 1)
    for batch in lane.batches.values():
        if batch.id != first:
            lane.end(batch)
    look_often(db, worker, lane, "create", 1)
    lane.fault.invalid = []
    assert lane.sent.total() == 0
    lane.auto = True
    through(db, worker)
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert [row[1:4] for row in batches(db)] == [("done", ROWS, ROWS)] * 2
    assert (lane.sent.total(), lane.paid_twice, lane.counts["upload"]) == (0, {}, 2)
    db.execute("SELECT embed_drop('notes')")


def test_a_batch_that_does_not_fit_alone_goes_by_requests(connect, db, lane):
    lane.fault.invalid = [LIMIT]
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert batches(db)[0][1:4] == ("failed", ROWS, 0)
    assert lane.sent.total() == ROWS
