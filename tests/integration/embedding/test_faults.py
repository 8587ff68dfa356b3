"""Faults of a model's server: nothing is lost, no other pipeline suffers, and all rows become fresh afterwards."""

import threading

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_once, shown, status_of
from tests.fixtures.providers import faults
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.stress import often
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')"}
SHORT = {"connect_timeout": 1, "read_timeout": 0.3, "total_timeout": 0.5}
NEVER = threading.Event()
REST_OVER = "SELECT setval('embed.model_' || id || '_rests_until', 1) FROM embed.model WHERE name = 'loop'"

# What passes: the same request is sent again, a moment later, and the rows do not even notice.
HICCUPS = {
    "429": faults.status(429),
    "429 that says when": faults.status(429, Retry_After="0.1"),
    "500": faults.status(500),
    "503 with a page": faults.status(503, b"<html>busy</html>", Content_Type="text/html"),
    "a page": faults.html(),
    "half of the JSON": faults.truncated(),
    "reset before the answer": faults.reset(),
    "reset within the answer": faults.reset(after=20),
    "no HTTP": faults.noise(),
    "headers that trickle": faults.trickling_headers(NEVER.wait),
    "a body that trickles": faults.trickling_body(NEVER.wait),
    "a body without end": faults.endless(),
    "chunks without end": faults.endless(in_chunks=True),
    "headers without end": faults.endless_headers(),
    "a bomb": faults.compressed(200),
}
# What only a person can mend: nothing is tried again with all texts, and no row is given up.
MISTAKES = {
    "401": faults.status(401),
    "403": faults.status(403),
    "404": faults.status(404),
    "unpaid account": faults.insufficient_quota(),
    "elsewhere": faults.redirect("http://127.0.0.1:9/v1/embeddings"),
    "other dimensions": faults.each(lambda item: item[:5]),
    "any text is refused": faults.status(400),
}
# What is wrong with one text's vector.
ODD = {
    "NaN": lambda item: [*item[1:], None],
    "infinity": lambda item: [*item[1:], 1e39],
    "empty": lambda _: [],
    "null": lambda _: None,
    "too short": lambda item: item[1:],
    "no base64": lambda _: "?!",
}


@pytest.fixture
def pipeline(db, docs, provider):
    provider.register(db, endpoint=SHORT)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")


def become_fresh(db):
    wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="ten rows, by themselves")
    assert_as_source(db)
    assert status_of(db, "failed") == 0


@pytest.mark.few(4)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", HICCUPS)
def test_a_hiccup_is_over_before_the_call_is(connect, db, pipeline, provider, fault, call):
    provider.fail(HICCUPS[fault], times=1)
    connect().execute(CALLS[call])
    assert len(provider.requests) == 2
    assert_as_source(db)


@pytest.mark.parametrize("call", often(CALLS, "work"))
def test_a_server_that_does_not_answer(connect, db, pipeline, provider, call):
    provider.hold()
    connect().execute(CALLS[call])
    assert len(provider.requests) == 3
    assert status_of(db, "pending") == 10
    assert "loop" in status_of(db, "last_error")
    provider.release()
    become_fresh(db)


@pytest.mark.parametrize("call", CALLS)
def test_nobody_listens_until_somebody_does(connect, db, docs, call):
    with LoopbackProvider() as gone:
        port = gone.port
    db.execute("SELECT embed_endpoint_set('loop', %s)", (f"http://127.0.0.1:{port}/v1",))
    db.execute("SELECT embed_model_add('loop', 'openai', 8, endpoint => 'loop')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    connect().execute(CALLS[call])
    assert status_of(db, "pending") == 10
    assert status_of(db, "failed") == 0
    with LoopbackProvider() as there:
        db.execute("SELECT embed_endpoint_set('loop', %s)", (there.url,))
        become_fresh(db)


@pytest.mark.few(3)
@pytest.mark.parametrize("call", often(CALLS, "drain"))
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_one_text_at_a_time_until_it_is_mended(connect, db, pipeline, provider, mistake, call):
    provider.fail(MISTAKES[mistake])
    connect().execute(CALLS[call])
    first = len(provider.requests)
    assert status_of(db, "pending") == 10
    assert status_of(db, "failed") == 0
    assert "loop" in status_of(db, "last_error") or "127.0.0.1" in status_of(db, "last_error")
    connect().execute(CALLS[call])
    assert len(provider.requests) == first  # the model rests
    db.execute(REST_OVER)
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    connect().execute(CALLS[call])
    assert {len(texts) for texts in provider.requests[first:]} == {1}
    provider.mend()
    db.execute(REST_OVER)
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    become_fresh(db)


def test_a_mended_mistake_needs_no_hand(connect, db, pipeline, provider):
    provider.fail(faults.status(401))
    worker = connect()
    work = Background(worker, "CALL embed_work(max_runtime => '60 s')")
    provider.wait_for_requests(1)
    provider.mend()
    wait_until(lambda: len(shown(db)) == 10, what="ten rows, by themselves")
    worker.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert_as_source(db)


@pytest.mark.few(2)
@pytest.mark.parametrize("call", often(CALLS, "work"))
@pytest.mark.parametrize("odd", ODD)
def test_one_odd_vector_delays_no_other_row_and_is_asked_for_again(connect, db, pipeline, provider, odd, call):
    provider.fail(faults.each(ODD[odd], only=lambda text: text == "title 4\n\nbody 4"))
    connect().execute(CALLS[call])
    assert sorted(shown(db)) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert len(provider.requests) == 1
    provider.mend()
    become_fresh(db)
    assert provider.sent.total() == 11


def test_an_odd_vector_that_stays_odd_is_a_dead_letter_in_the_end(db, docs, provider):
    provider.register(db)
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', options => %s)",
        ('{"max_attempts": 3}',),
    )
    provider.fail(faults.each(ODD["infinity"], only=lambda text: text == "title 4\n\nbody 4"))
    for _ in range(4):
        drain_once(db)
        db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    assert status_of(db, "failed") == 1
    assert "infinity" in status_of(db, "last_error")
    assert len(shown(db)) == 9
    assert provider.sent["title 4\n\nbody 4"] == 3


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("change", [-1, 1])
def test_too_few_or_too_many_vectors(connect, db, pipeline, provider, change, call):
    """None of them can be trusted; as one text a request they can."""
    provider.fail(faults.count(change), when=lambda call: len(call.texts) > 1)
    connect().execute(CALLS[call])
    assert_as_source(db)


@pytest.mark.parametrize("call", often(CALLS, "work"))
def test_one_poisoned_row_among_a_thousand(connect, db, model, provider, call):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int)")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 1000) i")
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 613")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.fail(faults.status(400), when=lambda call: any("poison" in text for text in call.texts))
    connect().execute(CALLS[call])
    assert len(shown(db)) == 999
    assert status_of(db, "failed") == 1
    assert status_of(db, "pending") == 0
    assert len(provider.requests) <= 2 * 10 + 4


def test_a_dimension_that_is_ignored_is_named(db, docs, provider):
    provider.register(db, send_dimensions=True)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.fail(faults.each(lambda item: item * 2))
    drain_once(db)
    error = status_of(db, "last_error")
    assert "16" in error
    assert "8 dimensions" in error
    assert "send_dimensions" in error
