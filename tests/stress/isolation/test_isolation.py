"""What is wrong with one pipeline, model or endpoint delays no other one, and costs next to nothing while it rests."""

import time

import pytest
from psycopg.types.json import Jsonb

from tests.fixtures.pipelines.documents import assert_as_source, shown, status_of
from tests.fixtures.pipelines.endpoints import create, let_time_pass, serve, table
from tests.fixtures.providers import faults
from tests.fixtures.waiting import wait_until
from tests.stress.isolation.pipelines import ONE, edits_become_fresh, two_pipelines

pytestmark = pytest.mark.stress

ILLS = {
    "down": ({}, {}, lambda p: p.fail(faults.status(500))),
    "hangs": ({"total_timeout": 2, "read_timeout": 2}, {}, lambda p: p.hold()),
    "rate limited": ({"requests_per_minute": 6}, {}, lambda _: None),
    "busy": ({}, {}, lambda p: p.fail(faults.status(429, Retry_After="30"))),
    "wrong key": ({}, {}, lambda p: p.fail(faults.status(401))),
    "over budget": ({}, {"daily_tokens": 20}, lambda _: None),
    "poison": ({}, {}, lambda p: p.fail(faults.status(400))),
}


@pytest.mark.parametrize("ill", ILLS)
def test_a_worker_keeps_the_healthy_one_fresh(db, provider, healthy, worker, ill):
    endpoint, options, spoil = ILLS[ill]
    spoil(provider)
    two_pipelines(db, provider, healthy, options, **endpoint)
    provider.wait_for_requests(1)
    wait_until(lambda: len(shown(db, "notes")) == 10, timeout=5, what="backfill")
    assert edits_become_fresh(db, "notes") < 2
    assert_as_source(db, "notes")
    provider.release()


@pytest.mark.parametrize("ill", ILLS)
def test_a_drain_does_the_healthy_one_and_ends_in_time(db, provider, healthy, ill):
    """A second for the drain, and one request that is under way."""
    endpoint, options, spoil = ILLS[ill]
    spoil(provider)
    two_pipelines(db, provider, healthy, options, **endpoint)
    began = time.monotonic()
    db.execute("SELECT embed_drain(max_runtime => '1 s')")
    took = time.monotonic() - began
    assert_as_source(db, "notes")
    assert took < 1 + 2 + 1
    provider.release()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("SELECT embed_drain(max_runtime => '1 s')", "hangs"),
        pytest.param("SELECT embed_drain(max_runtime => '1 s')", "halved"),
        pytest.param("CALL embed_work(max_runtime => '1 s')", "hangs"),
        pytest.param("CALL embed_work(max_runtime => '1 s')", "halved"),
    ],
)
def test_nothing_is_sent_again_when_the_time_is_up(connect, db, provider, call, kind):
    """A request that fails after the deadline is not tried again, nor in halves."""
    serve(db, provider, total_timeout=2, read_timeout=2)
    table(db, "docs", 64)
    create(db)
    if kind == "hangs":
        provider.hold()
    else:
        provider.fail(lambda reply: (time.sleep(0.6), faults.status(400)(reply)))
    began = time.monotonic()
    connect().execute(call)
    took = time.monotonic() - began
    provider.release()
    assert took < 1 + 2 + 1


@pytest.mark.parametrize(
    "call", ["SELECT embed_drain(max_runtime => '0.5 s')", "CALL embed_work(max_runtime => '0.5 s')"]
)
def test_a_function_that_takes_its_time_keeps_to_the_time(db, docs, call):
    slow_function(db, 0.1, "slow", inputs=1)
    table(db, "docs2", 40)
    create(db, "docs2", "slow")
    began = time.monotonic()
    db.execute(call)
    assert time.monotonic() - began < 2


def slow_function(db, seconds, name, body="", **options):
    db.execute(
        f"CREATE FUNCTION {name}(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$ BEGIN {body} "
        f"PERFORM pg_sleep({seconds}); RETURN (SELECT array_agg('[1,2]'::vector) FROM unnest(texts)); END $$"
    )
    db.execute("SELECT embed_model_add(%s, 'function', 2, %s, options => %s)", (name, name, Jsonb(options)))


def test_a_slow_function_lets_others_have_their_turn_between_its_calls(db, healthy, worker):
    slow_function(db, 0.1, "slow", inputs=1)
    serve(db, healthy, "well")
    table(db, "notes", 10)
    create(db, "notes", "well")
    wait_until(lambda: len(shown(db, "notes")) == 10, what="backfill")
    table(db, "docs", 300)
    create(db, "docs", "slow")
    wait_until(lambda: status_of(db, "in_flight") > 0, what="the function at work")
    assert edits_become_fresh(db, "notes") < 3


def test_a_function_that_raises_lets_others_have_their_turn(db, healthy, worker):
    slow_function(db, 0, "bad", "PERFORM pg_sleep(0.02); RAISE EXCEPTION 'no';", inputs=100)
    serve(db, healthy, "well")
    table(db, "notes", 10)
    create(db, "notes", "well")
    wait_until(lambda: len(shown(db, "notes")) == 10, what="backfill")
    table(db, "docs", 300)
    create(db, "docs", "bad")
    wait_until(lambda: status_of(db, "in_flight") > 0, what="the function at work")
    assert edits_become_fresh(db, "notes") < 3


def test_poison_that_is_halved_delays_the_others_of_its_endpoint_little(db, provider, worker):
    serve(db, provider, max_in_flight=2)
    table(db, "notes", 10)
    create(db, "notes")
    wait_until(lambda: len(shown(db, "notes")) == 10, what="backfill")
    provider.fail(
        lambda reply: (time.sleep(0.02), faults.status(400)(reply)),
        when=lambda call: any("poison" in text for text in call.texts),
    )
    table(db, "docs", 1000, text="poison")
    create(db, "docs")
    wait_until(lambda: status_of(db, "in_flight") > 0, what="poison at work")
    assert edits_become_fresh(db, "notes") < 2
    assert len(shown(db, "notes")) == 10


def test_a_model_that_is_wrong_delays_no_other_model_of_its_endpoint(db, provider, worker):
    """While its probe is under way, and that takes long."""
    serve(db, provider, "loop", ONE)
    db.execute("""SELECT embed_model_add('wrong', 'openai', 8, endpoint => 'loop', options => '{"inputs": 1}')""")
    table(db, "notes", 10)
    create(db, "notes")
    wait_until(lambda: len(shown(db, "notes")) == 10, what="backfill")
    provider.fail(faults.status(404), when=lambda call: call.body["model"] == "wrong")
    table(db, "docs", 50)
    create(db, "docs", "wrong")
    wait_until(lambda: "404" in (status_of(db, "last_error") or ""), what="its failure")
    wait_until(lambda: status_of(db, "in_flight") == 0, what="nothing under way")
    provider.mend()
    provider.reset()
    probes = []
    provider.fail(
        lambda reply: (probes.append(1), provider.stopped.wait(4), faults.status(404)(reply)),
        when=lambda call: call.body["model"] == "wrong",
    )
    let_time_pass(db)
    wait_until(lambda: probes, what="the probe")
    since = time.monotonic()
    db.execute("UPDATE notes SET body = 'edited ' || id")
    wait_until(lambda: all("edited" in chunk for chunk, _ in shown(db, "notes").values()), what="ten edits")
    assert time.monotonic() - since < 2
    assert len(probes) == 1


def test_a_lock_on_one_endpoint_delays_no_other_endpoint(connect, db, provider, healthy, worker):
    """Only a superuser can."""
    two_pipelines(db, provider, healthy)
    wait_until(lambda: len(shown(db, "notes")) == 10, what="backfill")
    connect(autocommit=False).execute(
        "SELECT FROM embed.shared_state_lock WHERE owner = 'endpoint' AND number = 1 FOR UPDATE"
    )
    table(db, "docs", 100, first=1001)
    assert edits_become_fresh(db, "notes") < 3


def test_a_drain_does_not_wait_for_the_rate_of_one_with_the_vectors_of_others_in_hand(db, provider, healthy):
    """One request a second and two hundred to send: what the healthy pipeline got is shown when the drain ends."""
    two_pipelines(db, provider, healthy, requests_per_minute=60)
    began = time.monotonic()
    db.execute("SELECT embed_drain(max_runtime => '9 s')")
    assert_as_source(db, "notes")
    assert time.monotonic() - began < 7


def test_twenty_pipelines_share_a_worker(db, provider, worker):
    """The first has much to do; the others are fresh long before it is."""
    serve(db, provider, "loop", {"inputs": 10}, max_in_flight=2)
    provider.fail(lambda _: time.sleep(0.02))
    names = [f"t{i}" for i in range(20)]
    for name in names:
        table(db, name, 5000 if name == "t0" else 10)
        create(db, name)
    fresh = "SELECT count(*) FROM embed_status WHERE pipeline <> 't0' AND fresh = 10"
    wait_until(lambda: db.execute(fresh).fetchone() == (19,), timeout=15, what="the others")
    assert len(shown(db, "t0")) < 4000
    for name in names[1:]:
        assert_as_source(db, name)


def test_a_drain_shares_its_rows_among_pipelines(db, provider):
    serve(db, provider)
    names = [f"t{i}" for i in range(20)]
    for name in names:
        table(db, name, 500 if name == "t0" else 10)
        create(db, name)
    assert db.execute("SELECT embed_drain(max_rows => 200)").fetchone() == (200,)
    assert min(len(shown(db, name)) for name in names) >= 5


def test_a_source_that_cannot_be_read_does_not_keep_a_worker_from_ending(connect, db, provider):
    """until_empty: what rests is no work."""
    serve(db, provider)
    table(db, "docs", 10)
    table(db, "notes", 10)
    create(db)
    create(db, "notes")
    db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; ALTER TABLE docs FORCE ROW LEVEL SECURITY")
    db.execute("CREATE ROLE unread_owner; ALTER TABLE docs OWNER TO unread_owner")
    try:
        began = time.monotonic()
        connect().execute("CALL embed_work(until_empty => true, max_runtime => '8 s')")
        assert_as_source(db, "notes")
        assert time.monotonic() - began < 4
    finally:
        db.execute("REASSIGN OWNED BY unread_owner TO CURRENT_USER; DROP OWNED BY unread_owner; DROP ROLE unread_owner")
