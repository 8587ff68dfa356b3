"""Rate limits and breakers are shared by all sessions, seen at once, and survive a rollback."""

import psycopg
import psycopg.types.json
import pytest

from tests.fixtures.dumps import create_empty, dump, restore
from tests.fixtures.pipelines.documents import (
    assert_as_source,
    drain_all,
    drain_once,
    rested,
    shown,
    stale_keys,
    status_of,
)
from tests.fixtures.pipelines.endpoints import rest_longer
from tests.fixtures.providers import faults
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.slow

CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')"}


def serve(db, provider, name="loop", model_options="{}", **endpoint):
    options = psycopg.types.json.Jsonb(endpoint)
    db.execute("SELECT embed_endpoint_set(%s, %s, options => %s)", (name, provider.url, options))
    db.execute("SELECT embed_model_add(%s, 'openai', 8, endpoint => %s, options => %s)", (name, name, model_options))


def create(db, pipeline="docs", model="loop", options="{}"):
    db.execute(
        f"SELECT embed_create('{pipeline}', '{pipeline}', columns => '{{title,body}}', model => %s, options => %s)",
        (model, options),
    )


def copy_docs(db, name):
    db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, title text, body text)")
    db.execute(f"INSERT INTO {name} SELECT id, '{name} ' || title, body FROM docs")


def endpoint(db, column):
    return db.execute(f"SELECT {column} FROM embed_endpoints").fetchone()[0]


def let_time_pass(db, number=1):
    """As if the endpoint had rested long enough."""
    db.execute(f"SELECT setval('embed.endpoint_{number}_rests_until', 1)")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_rate_limit_holds_for_all_sessions(connect, db, docs, provider, end):
    """Two requests a minute: one now, the next in half a minute, longer than a drain waits, in any session."""
    serve(db, provider, model_options='{"inputs": 1}', requests_per_minute=2)
    create(db)
    first = connect(autocommit=False)
    assert drain_once(first) == 1
    assert drain_once(db) == 0  # while the first drain's transaction is open …
    first.execute(end)
    drain_once(connect())  # … and however it ends
    assert len(provider.requests) == 1
    assert status_of(db, "failed") == 0
    assert status_of(db, "last_error") is None  # waiting for one's turn is no error


def test_a_limit_on_tokens_holds_too(db, docs, provider):
    """A text of 4 tokens a second: ten of them fit into the first burst, if at all, and the rest waits."""
    serve(db, provider, tokens_per_minute=24)
    db.execute("UPDATE docs SET body = repeat('word ', 10)")
    create(db)
    assert drain_once(db) < 10
    assert len(provider.requests) == 1


def test_live_work_goes_before_backfill_when_quota_is_short(connect, db, docs, provider):
    """Thirty a minute, one text a request: what was edited while backfill waits for its turn is the next to go."""
    serve(db, provider, model_options='{"inputs": 1}', requests_per_minute=30)
    create(db)
    worker = connect()
    Background(worker, "CALL embed_work(max_runtime => '50 s')")
    provider.wait_for_requests(1)
    db.execute("INSERT INTO docs VALUES (11, 'new', 'one')")
    provider.wait_for_requests(3)
    worker.cancel()
    assert ["new\n\none"] in provider.requests[1:3]


@pytest.mark.parametrize("call", CALLS)
def test_after_three_failures_nobody_sends_but_one_probe(connect, db, docs, provider, call):
    serve(db, provider)
    create(db, options='{"max_attempts": 1}')
    provider.answer = lambda _: (500, b"out of order")
    db.execute(CALLS[call])
    assert len(provider.requests) == 3
    assert endpoint(db, "breaker") == "open"
    assert "500" in status_of(db, "last_error")
    assert status_of(db, "failed") == 0
    rest_longer(db)
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    for other in (*CALLS.values(), CALLS[call]):
        connect().execute(other)
    assert len(provider.requests) == 3
    # After the pause one text probes the endpoint, and until its answer no session sends anything else.
    provider.reset()
    provider.answer = None
    provider.hold()
    let_time_pass(db)
    probe = Background(connect(), CALLS[call])
    provider.wait_for_requests(1)
    assert drain_once(db) == 0
    connect().execute(CALLS["work"])
    assert [len(texts) for texts in provider.requests] == [1]
    provider.release()
    probe.result()
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_all(db)
    assert_as_source(db)
    assert endpoint(db, "breaker") == "closed"
    assert endpoint(db, "failures") == 0
    assert provider.sent.total() == 10


def test_a_probe_that_dies_with_its_session_is_not_waited_for_forever(connect, db, docs, provider):
    serve(db, provider, total_timeout=0.5, read_timeout=0.5)
    create(db)
    provider.answer = lambda _: (500, b"out of order")
    drain_once(db)
    provider.answer = None
    provider.hold()
    let_time_pass(db)
    provider.reset()
    prober = connect()
    work = Background(prober, CALLS["work"])
    provider.wait_for_requests(1)
    db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
    with pytest.raises(psycopg.OperationalError):
        work.result()
    provider.release()
    rested(db)  # half a second and five more
    wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="another session's probe")
    assert_as_source(db)


@pytest.mark.parametrize("call", CALLS)
def test_the_server_is_left_alone_as_long_as_it_asks(connect, db, docs, provider, call):
    """And that is no failure: the breaker stays closed."""
    serve(db, provider)
    create(db)
    provider.fail(faults.status(429, Retry_After="40"))
    db.execute(CALLS[call])
    assert len(provider.requests) == 1
    assert endpoint(db, "breaker") == "resting"
    rests = endpoint(db, "extract(epoch FROM rests_until - clock_timestamp())")
    assert 30 < rests <= 40
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    for other in CALLS.values():
        connect().execute(other)
    assert len(provider.requests) == 1
    provider.mend()
    let_time_pass(db)
    drain_all(db)
    assert_as_source(db)
    assert status_of(db, "failed") == 0


def test_one_endpoint_that_hangs_delays_no_other_one_in_the_same_worker(connect, db, docs, provider):
    """Backfill and live edits of the healthy one become fresh while the other's request is still out."""
    with LoopbackProvider() as healthy:
        serve(db, provider)
        serve(db, healthy, "healthy")
        create(db)
        copy_docs(db, "notes")
        create(db, "notes", "healthy")
        provider.hold()
        worker = connect()
        work = Background(worker, "CALL embed_work(max_runtime => '50 s')")
        provider.wait_for_requests(1)
        wait_until(lambda: len(shown(db, "notes")) == 10, what="the backfill of the healthy one")
        db.execute("UPDATE notes SET body = 'edited' WHERE id = 3")
        wait_until(lambda: shown(db, "notes")[3][0].endswith("edited"), what="an edit")
        assert shown(db) == {}
        provider.release()
        wait_until(lambda: len(shown(db)) == 10, what="the other one")
        worker.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()
        assert_as_source(db, "notes")
        assert_as_source(db)


def test_one_endpoint_that_is_down_delays_no_other_one(connect, db, docs, provider):
    with LoopbackProvider() as healthy:
        serve(db, provider)
        serve(db, healthy, "healthy")
        create(db)
        copy_docs(db, "notes")
        create(db, "notes", "healthy")
        provider.answer = lambda _: (500, b"out of order")
        connect().execute(CALLS["work"])
        assert_as_source(db, "notes")
        db.execute("UPDATE docs SET body = 'edited'")
        db.execute("UPDATE notes SET body = 'edited ' || id")
        connect().execute(CALLS["drain"])
        assert_as_source(db, "notes")
        assert len(provider.requests) == 3
        provider.answer = None
        wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="the other one, by itself")
        assert_as_source(db)


def test_a_model_that_is_set_up_wrongly_is_asked_with_one_text_from_then_on(db, docs, provider):
    """Other models of the endpoint go on, no row is given up, and once it is mended all become fresh by themselves."""
    serve(db, provider)
    db.execute("SELECT embed_model_add('wrong', 'openai', 9, endpoint => 'loop')")
    create(db, model="wrong", options='{"max_attempts": 1}')
    copy_docs(db, "notes")
    create(db, "notes")
    drain_all(db)
    assert_as_source(db, "notes")
    assert status_of(db, "failed") == 0
    assert "dimensions" in status_of(db, "last_error")
    provider.reset()
    db.execute("SELECT setval('embed.model_101_rests_until', 1)")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_once(db)
    assert [len(texts) for texts in provider.requests] == [1]
    provider.dimensions = 9
    wait_until(lambda: drain_once(db) is not None and len(shown(db)) == 10, what="rows tried again by themselves")


def test_an_endpoint_that_is_set_anew_is_tried_at_once(db, docs, provider):
    """After a repair there is no need to wait for a breaker."""
    provider.register(db, secret="nobody_has_it")
    create(db)
    drain_once(db)
    provider.fail(faults.status(500))
    db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_once(db)
    assert len(provider.requests) == 3
    provider.mend()
    db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_once(db)
    assert_as_source(db)


def test_the_state_goes_with_a_dump_and_with_the_extension(cluster, connect, db, docs, provider, tmp_path):
    serve(db, provider, requests_per_minute=1000)
    create(db, options='{"daily_tokens": 1000}')
    drain_all(db)
    name = f"{db.info.dbname}_restored"
    create_empty(cluster, name)
    restore(cluster, name, dump(cluster, db.info.dbname, tmp_path, "custom"), "custom")
    with psycopg.connect(cluster.dsn(name), autocommit=True) as restored:
        restored.execute("UPDATE docs SET body = 'edited ' || id")
        wait_until(lambda: drain_once(restored) == 0 and stale_keys(restored) == [], what="the edit")
        assert_as_source(restored)
        restored.execute("SELECT embed_drop('docs')")
        restored.execute("DROP EXTENSION evergreen")
        left = "SELECT relname FROM pg_class WHERE relname ~ '^(endpoint|model|pipeline)_'"
        assert restored.execute(left).fetchall() == []
