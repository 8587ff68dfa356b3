"""What goes through a batch API, what does not, and what it costs."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_once, shown, status_of
from tests.fixtures.providers.batches import SERVERS
from tests.integration.batches.lane import batches, create, fill, state, steps, through

pytestmark = pytest.mark.shared_database

ROWS = 30


@pytest.mark.parametrize("api", SERVERS, indirect=True)
def test_history_goes_through_a_batch_at_its_price(connect, db, lane):
    create(db)
    through(db, connect())
    assert_as_source(db)
    assert lane.sent.total() == 0
    assert not lane.paid_twice
    assert len(lane.billed) == ROWS
    assert (lane.counts["upload"], lane.counts["create"]) == (1, 1)
    ((_, end, texts, succeeded, failed, error),) = batches(db)
    assert (end, texts, succeeded, failed, error) == ("done", ROWS, ROWS, 0, None)
    cost, saved = db.execute("SELECT cost, saved FROM embed_batches").fetchone()
    discount = {"voyage": 1 / 3, "openai": 0.5, "mistral": 0.5, "gemini": 0.5}[lane.format]
    assert saved / (cost + saved) == pytest.approx(discount, abs=0.01)
    usage = db.execute(
        "SELECT sum(texts), sum(batch_texts), sum(cost), sum(saved_by_cache) FROM embed_usage"
    ).fetchone()
    assert usage == (ROWS, ROWS, cost, 0)


def test_nothing_of_it_stays_behind(connect, db, lane):
    create(db)
    through(db, connect())
    assert lane.files == {}
    assert db.execute("SELECT count(*) FROM embed.batch_text").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed.cache").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed.in_flight").fetchone() == (0,)


def test_a_few_texts_go_by_requests(connect, db, lane):
    create(db, batch_min_texts=ROWS + 1)
    through(db, connect())
    assert_as_source(db)
    assert (lane.sent.total(), lane.counts["create"]) == (ROWS, 0)


def test_texts_that_turn_out_to_be_few_go_by_requests(connect, db, lane):
    """Ten different texts in thirty rows: the rows to come are guessed to have as many as those before."""
    fill(db, 1000)
    db.execute("UPDATE docs SET body = 'text ' || id % 10 WHERE id > 10")
    create(db, batch_min_texts=500)
    through(db, connect())
    assert_as_source(db)
    assert lane.counts["create"] == 0
    assert not lane.paid_twice


def test_without_the_option_nothing_goes_through_a_batch(connect, db, lane):
    create(db, backfill_via="requests")
    through(db, connect())
    assert_as_source(db)
    assert lane.counts["upload"] == 0


def test_a_live_change_never_waits(connect, db, lane):
    """An edit, a new row, and a new row with a text that is in the batch: that one is paid for twice."""
    worker = connect()
    lane.auto = False
    create(db)
    steps(db, worker, "submitted")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 3")
    db.execute("INSERT INTO docs (id, title, body) VALUES (100, 'title', 'new'), (101, 'title', 'text 7')")
    worker.execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    assert set(shown(db)) == {3, 100, 101}
    assert status_of(db, "in_batch") == ROWS - 1
    lane.finish()
    lane.auto = True
    through(db, worker)
    assert_as_source(db)
    assert {text for _, text in lane.paid_twice} == {"title\n\ntext 7"}


def test_rows_with_the_same_text_wait_for_the_same_batch(connect, db, lane):
    """In a pipeline of another table, whose history is by requests."""
    lane.auto = False
    worker = connect()
    create(db)
    steps(db, worker, "submitted")
    db.execute("CREATE TABLE notes AS SELECT id + 100 AS id, title, body FROM docs")
    db.execute("ALTER TABLE notes ADD PRIMARY KEY (id)")
    create(db, "notes", backfill_via="requests")
    worker.execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    assert shown(db, "notes") == {}
    lane.finish()
    through(db, worker)
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert not lane.paid_twice
    db.execute("SELECT embed_drop('notes')")


def test_a_rebuild_goes_through_a_batch(connect, db, lane):
    worker = connect()
    create(db, backfill_via="requests")
    through(db, worker)
    db.execute("""SELECT embed_alter('docs', '{"backfill_via": "batch"}')""")
    db.execute("SELECT embed_build('docs', template => 'now: $title $body')")
    through(db, worker)
    assert lane.counts["create"] == 1
    db.execute("SELECT embed_promote('docs')")
    assert {chunk for chunk, _ in shown(db).values()} == {f"now: title text {i}" for i in range(1, ROWS + 1)}
    assert lane.sent.total() == ROWS


def test_a_document_flips_when_all_its_chunks_are_there(connect, db, lane):
    """Its first chunk is in the batch, one more came live."""
    worker = connect()
    lane.auto = False
    db.execute("UPDATE docs SET body = repeat('word ', 200) || id")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop',"
        """ chunker => embed_chunk_text(size => 400), options => '{"backfill_via": "batch", "batch_min_texts": 5}')"""
    )
    steps(db, worker, "submitted")
    whole = "SELECT count(DISTINCT id), count(*) FROM docs_embedding"
    assert db.execute(whole).fetchone() == (0, 0)
    db.execute("UPDATE docs SET body = repeat('word ', 200) || 'live' WHERE id = 1")
    worker.execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    rows, live_chunks = db.execute(whole).fetchone()
    assert rows == 1
    assert live_chunks > 1
    lane.finish()
    through(db, worker)
    assert db.execute(whole).fetchone() == (ROWS, ROWS * live_chunks)
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == ROWS


def test_a_drain_does_not_wait_and_says_how_many_rows_do(connect, db, lane):
    lane.auto = False
    create(db)
    steps(db, connect(), "submitted")
    session, said = connect(), []
    session.add_notice_handler(lambda notice: said.append(notice.message_primary))
    assert drain_once(session) == 0
    assert [line for line in said if "batch" in line] == [
        f"in a batch at the provider, for which a drain does not wait: {ROWS} rows"
    ]
    assert status_of(db, "last_error") is None
    assert status_of(db, "failed") == 0
    assert db.execute("""SELECT embed_wait('docs', '[3]', timeout => '0.1 s')""").fetchone() == (False,)
    lane.finish()


def test_two_batches_where_one_is_full(connect, db, lane):
    """The limits are the provider's; here a text too many is simulated by a batch that is full."""
    worker = connect()
    create(db)
    worker.execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    db.execute("UPDATE embed.batch SET is_full = true")
    db.execute("INSERT INTO docs (id, title, body) SELECT i, 'title', 'more ' || i FROM generate_series(200, 220) i")
    db.execute("DELETE FROM embed.change_log")
    db.execute("SELECT embed_backfill('docs')")
    through(db, worker)
    assert_as_source(db)
    assert [(end, texts) for _, end, texts, *_ in batches(db)] == [("done", ROWS), ("done", 21)]
    assert lane.sent.total() == 0


def test_an_estimate_says_what_goes_through_the_batch(db, lane):
    create(db)
    estimate = "SELECT texts, calls, cost, batch_texts, batch_cost FROM embed_estimate('docs')"
    texts, calls, cost, batch_texts, batch_cost = db.execute(estimate).fetchone()
    assert (texts, calls, batch_texts) == (ROWS, 0, ROWS)
    assert cost == batch_cost > 0
    db.execute("""SELECT embed_alter('docs', '{"backfill_via": "requests"}')""")
    assert db.execute(estimate).fetchone() == (ROWS, 1, 2 * cost, 0, 0)


def test_the_status_of_a_batch(connect, db, lane):
    lane.auto = False
    create(db)
    worker = connect()
    steps(db, worker, "submitted")
    endpoint, model, pipeline = db.execute("SELECT endpoint, model, pipeline FROM embed_batches").fetchone()
    assert (endpoint, model, pipeline) == ("loop", "loop", "docs")
    assert state(db, "remote_id") in lane.batches
    assert state(db, "deadline - submitted_at BETWEEN '23 hours' AND '24 hours'")
    assert state(db, "finished_at") is None
    (story,) = db.execute("SELECT embed_explain('docs', '[3]')").fetchone()
    assert f"queue: in batch {state(db, 'id')} at the provider, until" in story
    lane.finish()
    steps(db, worker, "done")
    assert state(db, "finished_at") is not None
