"""A dump or copy of the database takes nothing of the original's batches: it cannot know who has them in hand."""

import pytest

from tests.fixtures.dumps import Place
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.stress import often
from tests.integration.batches.lane import batches, create, state, steps, through

ROWS = 30


@pytest.mark.slow
@pytest.mark.parametrize("how", often(["restored", "cloned"], "restored"))
def test_a_copy_leaves_the_original_s_batch_alone(connect, db, lane, how, request):
    worker = connect()
    lane.auto = False
    create(db)
    steps(db, worker, "submitted")
    remote = state(db, "remote_id")
    worker.close()
    if how == "restored":
        copy = request.getfixturevalue("move")(Place("same", "custom"))
    else:
        make = request.getfixturevalue("clone")
        db.close()
        copy = make()
    copy.execute("SELECT embed_drain()")  # binds the pipeline
    assert batches(copy) == []
    copy.execute("""SELECT embed_alter('docs', '{"backfill_via": "requests"}')""")
    through(copy, copy)
    assert_as_source(copy)
    assert lane.sent.total() == ROWS
    assert not lane.batches[remote].is_over
    assert lane.counts["cancel"] + lane.counts["delete"] == 0
