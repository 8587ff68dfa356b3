"""Budgets in corners, views in odd places, wrong input, and people who name things as we do."""

import json
import random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.fixtures.dumps import create_empty, dump, restore
from tests.fixtures.error_checks import complaint, refused
from tests.fixtures.pipelines.documents import assert_as_source, drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import CALLS, create, hurry, serve, table
from tests.fixtures.roles import people
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.stress

VIEWS = ("embed_models", "embed_endpoints", "embed_usage", "embed_failures", "embed_status", "embed_pipelines")
A_DAY = 1 << 44


def next_day(db, number=1):
    """As if the counters were of yesterday."""
    for kind in ("tokens", "cost"):
        name = f"embed.pipeline_{number}_{kind}"
        db.execute(f"SELECT setval('{name}', greatest(1, last_value - {A_DAY})) FROM {name}")
    hurry(db)


def words(db, rows, name="docs"):
    """Rows of texts whose tokens are what they are estimated at: five each, as billed."""
    db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, title text, body text)")
    db.execute(
        f"INSERT INTO {name} SELECT i, 'abc abc abc', lpad(i::text, 5, 'x') || ' x' FROM generate_series(1, {rows}) i"
    )


@pytest.mark.parametrize("kind", ["tokens", "cost"])
def test_many_at_once_do_not_spend_more_than_there_is(connect, db, provider, kind):
    serve(db, provider, model={"inputs": 4, "price": 1_000_000})
    words(db, 400)
    create(db, **{f"daily_{kind}": 500})
    workers = [Background(connect(), CALLS["work"]) for _ in range(3)]
    drains = [Background(connect(), "SELECT embed_drain(max_rows => 60)") for _ in range(2)]
    for one in (*workers, *drains):
        one.result()
    assert 450 <= provider.tokens <= 500 + 4 * 6
    assert status_of(db, "state") == "over budget"


def test_what_is_billed_above_the_estimate_overspends_by_what_was_under_way(connect, db, provider):
    """Words of one letter: the server bills 21 tokens where 11 were estimated, so 18 requests take off and no more."""
    serve(db, provider, model={"inputs": 1}, max_in_flight=16)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs SELECT i, repeat('a ', 20), i FROM generate_series(1, 200) i")
    create(db, daily_tokens=200)
    provider.hold()
    workers = [Background(connect(), CALLS["work"]) for _ in range(2)]
    provider.wait_for_requests(8)
    provider.release()
    for one in workers:
        one.result()
    assert provider.tokens <= 18 * 21
    assert status_of(db, "state") == "over budget"


def test_a_budget_raised_a_little_can_be_spent(db, provider):
    """Half of it was spent when a request did not fit; with twice as much the rest can go on the same day."""
    serve(db, provider, model={"inputs": 1})
    words(db, 10)
    create(db, daily_tokens=27)
    drain_once(db)
    drain_once(db)
    spent = provider.tokens
    assert 15 <= spent <= 27
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": 45}')""")
    assert status_of(db, "state") == "active"
    hurry(db)
    drain_once(db)
    assert spent < provider.tokens <= 45


def test_a_text_that_no_day_can_pay_for_does_not_stop_the_others(db, provider):
    serve(db, provider)
    words(db, 5)
    db.execute("INSERT INTO docs VALUES (0, repeat('word ', 500), 'x')")
    create(db, daily_tokens=100)
    for _ in range(3):
        drain_once(db)
        next_day(db)
    assert sorted(shown(db)) == [1, 2, 3, 4, 5]


def test_a_text_that_no_day_can_pay_for_is_said_to_be_one(db, provider):
    serve(db, provider)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO docs VALUES (0, repeat('word ', 500), 'x')")
    create(db, daily_tokens=100)
    for _ in range(3):
        drain_once(db)
        next_day(db)
    drain_once(db)
    assert provider.tokens == 0
    assert "100" in status_of(db, "last_error"), "how much there is"


def test_what_is_left_of_a_budget_goes_to_texts_that_fit(db, provider):
    """A text that is too long for what is left of the day leaves that to shorter ones, or to the next call at least."""
    serve(db, provider)
    words(db, 5)
    db.execute("INSERT INTO docs VALUES (0, repeat('word ', 60), 'x')")
    create(db, daily_tokens=100)
    drain_once(db)
    hurry(db)
    assert len(shown(db)) > 0


def test_a_budget_in_money_needs_a_price(db, docs, provider):
    """Otherwise nothing would ever be counted, and the admin would believe that the limit holds."""
    serve(db, provider)
    error = refused(
        db,
        "SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop', options => %s)",
        (Jsonb({"daily_cost": 1}),),
    )
    assert "price" in str(error)


@pytest.mark.parametrize(
    "options", [{"daily_tokens": 30.4}, {"daily_tokens": 0.3}, {"daily_cost": 1e-7}, {"daily_cost": 20_000_000}]
)
def test_a_budget_that_cannot_be_counted_is_refused(db, provider, options):
    """Tokens are whole, money is counted in millionths, up to seventeen millions a day."""
    serve(db, provider, model={"price": 1_000_000})
    words(db, 4)
    error = refused(
        db,
        "SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop', options => %s)",
        (Jsonb(options),),
    )
    assert next(iter(options)) in str(error)


def test_the_next_day_goes_on_by_itself_and_the_option_can_be_taken_away(connect, db, provider):
    serve(db, provider, model={"inputs": 1})
    words(db, 12)
    create(db, daily_tokens=27)
    session = connect(autocommit=False)
    session.execute("SELECT embed_drain()")
    session.execute("ROLLBACK")
    spent = provider.tokens
    drain_once(db)
    assert provider.tokens == spent, "a rollback gives no money back"
    next_day(db)
    drain_once(db)
    assert provider.tokens > spent
    db.execute("""SELECT embed_alter('docs', '{"daily_tokens": null}')""")
    assert status_of(db, "state") == "active"
    for _ in range(2):
        hurry(db)
        drain_once(db)
    assert len(shown(db)) == 12


def look(session):
    """Every view, as text."""
    return {view: str(session.execute(f"SELECT * FROM {view}").fetchall()) for view in VIEWS}


def full(db, provider):
    serve(db, provider, model={"price": 1}, requests_per_minute=1000, organization="org-secret-1")
    table(db, "docs", 3)
    create(db, daily_tokens=1000)
    drain_once(db)


@pytest.fixture
def restored(cluster, db, provider, tmp_path):
    """Restore the test's database into another one, where no worker has been."""
    name = f"{db.info.dbname}_restored"

    def make():
        create_empty(cluster, name)
        restore(cluster, name, dump(cluster, db.info.dbname, tmp_path, "custom"), "custom")
        return psycopg.connect(cluster.dsn(name), autocommit=True)

    yield make
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_views_can_be_read_in_read_only_transactions(connect, db, provider):
    full(db, provider)
    session = connect()
    session.execute("SET default_transaction_read_only = on")
    assert "loop" in look(session)["embed_models"]


def test_views_can_be_read_after_a_restore_before_any_worker(db, provider, restored):
    full(db, provider)
    with restored() as session:
        found = look(session)
        assert "closed" in found["embed_endpoints"]
        drain_once(session)
        assert_as_source(session)


def test_a_restored_model_serves_a_new_pipeline(db, provider, restored):
    """The dump has endpoints and models, and no pipeline yet."""
    serve(db, provider, requests_per_minute=1000)
    table(db, "docs", 3)
    with restored() as session:
        create(session, daily_tokens=1000)
        drain_once(session)
        assert_as_source(session)


def test_a_restored_function_model_serves_a_new_pipeline(db, provider, restored):
    db.execute(
        "CREATE FUNCTION toy(texts text[]) RETURNS vector[] LANGUAGE sql"
        " RETURN (SELECT array_agg('[1,2]'::vector) FROM unnest(texts))"
    )
    db.execute("SELECT embed_model_add('toy', 'function', 2, 'toy')")
    table(db, "docs", 3)
    with restored() as session:
        create(session, "docs", "toy")
        drain_once(session)
        assert len(shown(session)) == 3


@pytest.mark.parametrize(
    "lost", ["endpoint_1_failures", "endpoint_1_tokens", "model_100_failures", "pipeline_1_tokens"]
)
def test_views_and_work_survive_a_lost_counter(db, provider, lost):
    """A user dropped a sequence that looked odd."""
    full(db, provider)
    db.execute(f"ALTER EXTENSION evergreen DROP SEQUENCE embed.{lost}; DROP SEQUENCE embed.{lost}")
    look(db)
    db.execute("UPDATE docs SET body = 'edited'")
    drain_once(db)
    hurry(db)
    drain_once(db)
    assert_as_source(db)


def test_views_show_strangers_nothing_that_is_not_theirs(connect, db, provider):
    people(db)
    full(db, provider)
    found = look(connect("bob"))
    for view in ("embed_endpoints", "embed_usage", "embed_failures", "embed_status", "embed_pipelines"):
        assert found[view] == "[]"
    assert "org-secret-1" not in str(found)
    assert "127.0.0.1" not in str(found)
    admin = look(connect("the_admin"))
    assert "closed" in admin["embed_endpoints"]


@pytest.mark.parametrize("role", ["bob", "alice", "the_worker", "the_payer"])
def test_counters_are_nobodys_but_ours(connect, db, provider, role):
    people(db)
    full(db, provider)
    session = connect(role)
    for statement in (
        "SELECT setval('embed.endpoint_1_rests_until', 9223372036854775807)",
        "SELECT last_value FROM embed.endpoint_1_requests",
        "SELECT nextval('embed.pipeline_1_tokens')",
        "SELECT embed.endpoint_state(1)",
        "SELECT embed.model_problem(1)",
        "SELECT embed.spent_budgets(1, '{}')",
        "SELECT embed_endpoint_set('loop', 'http://127.0.0.1:1/v1')",
        "SELECT embed_model_drop('loop')",
        """SELECT embed_alter('docs', '{"daily_tokens": null}')""",
    ):
        with pytest.raises(psycopg.Error) as found:
            session.execute(statement)
        assert found.value.sqlstate in {"42501", "3F000", "42704"}, statement


def test_names_like_ours_mislead_nobody(connect, db, provider):
    """Tables, sequences and functions of a user's that are named as ours are, first on the path, temporary too."""
    people(db)
    full(db, provider)
    for session in (db, connect()):
        session.execute("CREATE SCHEMA IF NOT EXISTS before; SET search_path = before, public")
        session.execute("CREATE TEMP SEQUENCE endpoint_1_failures; CREATE TEMP SEQUENCE model_100_rests_until")
        session.execute("CREATE TEMP SEQUENCE pipeline_1_tokens; CREATE TEMP TABLE usage (a int)")
    db.execute("CREATE TABLE before.pipeline (id int); CREATE TABLE before.endpoint (id int)")
    trap = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$"
    db.execute(f"CREATE FUNCTION before.setval(regclass, bigint) RETURNS bigint {trap}")
    db.execute(f"CREATE FUNCTION before.clock_timestamp() RETURNS timestamptz {trap}")
    db.execute(f"CREATE FUNCTION before.trap(jsonb, text) RETURNS text {trap}")
    db.execute("CREATE OPERATOR before.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = before.trap)")
    db.execute(f"CREATE FUNCTION before.pg_try_advisory_lock(int, int) RETURNS bool {trap}")
    db.execute("SET search_path = before, pg_catalog, public")
    db.execute("UPDATE docs SET body = 'edited'")
    look(db)
    drain_once(db)
    db.execute("UPDATE docs SET body = 'again'")
    db.execute(CALLS["work"])
    db.execute("RESET search_path")
    assert_as_source(db)


WRONG = [
    ("SELECT embed_endpoint_set(NULL, 'http://127.0.0.1:1/v1')", "42602"),
    ("SELECT embed_endpoint_set('', 'http://127.0.0.1:1/v1')", "42602"),
    ("SELECT embed_endpoint_set('x', NULL)", "22023"),
    ("SELECT embed_endpoint_set('x', 'http://127.0.0.1:99999/v1')", "22023"),
    ("SELECT embed_endpoint_set('x', 'http://127.0.0.1:1/v1', secret => '')", "22023"),
    ("SELECT embed_endpoint_set('x', 'http://127.0.0.1:1/v1', options => '[]')", "22023"),
    ("SELECT embed_endpoint_set('x', 'http://127.0.0.1:1/v1', options => '{\"requests_per_minute\": 0}')", "22023"),
    ("SELECT embed_endpoint_set('x', 'http://127.0.0.1:1/v1', options => '{\"requests_per_minute\": 1e400}')", "22023"),
    ("SELECT embed_endpoint_set('x', 'http://127.0.0.1:1/v1', options => '{\"max_in_flight\": 1.5}')", "22023"),
    ("SELECT embed_endpoint_set(repeat('x', 201), 'http://127.0.0.1/v1')", "42602"),
    ("SELECT embed_model_add('x', 'openai', 8)", "22023"),
    ("SELECT embed_model_add('x', 'openai', 8, endpoint => 'missing')", "42704"),
    ("SELECT embed_model_add('x', 'openai', 8, endpoint => '')", "42704"),
    ("SELECT embed_model_add(NULL, 'openai', 8)", "42602"),
    ("SELECT embed_model_add('x', NULL, 8)", "22023"),
    ("SELECT embed_model_add('x', 'hash', NULL)", "22023"),
    (
        "SELECT embed_model_add('x', 'hash', 8, endpoint => 'loop')",
        "22023",
    ),
    ("SELECT embed_model_add('x', 'openai', 8, endpoint => 'loop', options => '{\"price\": -1}')", "22023"),
    ("SELECT embed_model_drop('missing')", "42704"),
    ("SELECT embed_model_drop(NULL)", "42704"),
    ("SELECT embed_model_drop('wordllama-64')", "42809"),
    ("SELECT embed_alter('docs', '{\"daily_tokens\": 0}')", "22023"),
    ("SELECT embed_alter('docs', '{\"daily_cost\": \"1\"}')", "22023"),
    ("SELECT embed_alter('docs', '{\"live_share\": 1}')", "22023"),
    ("SELECT embed_alter('docs', '7')", "22023"),
    ("SELECT embed_retry('missing')", "42704"),
    ("SELECT embed_retry(NULL)", "42704"),
    ("SELECT embed_forget('docs', NULL)", "22023"),
    ("SELECT embed_forget('missing', '[1]')", "42704"),
    ("SELECT embed_estimate('missing')", "42704"),
    ("SELECT embed_estimate(NULL)", "42704"),
    ("SELECT embed_preview('docs', columns => '{nothing}')", "42703"),
    ("SELECT embed_preview(NULL, columns => '{title}')", "22004"),
]


@pytest.mark.parametrize(("statement", "state"), WRONG)
def test_wrong_input_is_refused_properly(db, docs, provider, statement, state):
    serve(db, provider)
    create(db)
    assert refused(db, statement).sqlstate == state


NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, 10**400, 1e-300]),
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=12)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("aZ_\"'{ ", max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)
ENDPOINT = (
    "connect_timeout",
    "read_timeout",
    "total_timeout",
    "max_in_flight",
    "requests_per_minute",
    "tokens_per_minute",
)
ENDPOINT += ("allow_http", "organization", "project", "proxy")
MODEL = (
    "inputs",
    "request_tokens",
    "input_tokens",
    "document_prompt",
    "query_prompt",
    "send_dimensions",
    "encoding_format",
    "price",
)
RIGHT = {
    "connect_timeout": [0.5, 240],
    "read_timeout": [5e-324, 1e-9, 0.5, 240],
    "total_timeout": [5e-324, 1e-9, 0.5, 240],
    "max_in_flight": [1, 64],
    "requests_per_minute": [0.01, 1, 1e15],
    "tokens_per_minute": [0.01, 1, 1e15],
    "allow_http": [True, False],
    "organization": ["org", "~" * 200],
    "project": ["p", '"'],
    "inputs": [1, 2**31 - 1],
    "request_tokens": [1, 2**31 - 1],
    "input_tokens": [1, 2**31 - 1],
    "document_prompt": ["", "q: ", "\u202e", "\ufffd" * 1000],
    "query_prompt": ["", "\n"],
    "send_dimensions": [True, False],
    "encoding_format": ["base64", "float"],
    "price": [0, 1e-300, 1e9],
    "on_too_long": ["fail", "truncate"],
    "max_attempts": [1, 1000],
    "live_share": [0.1, 0.9, None],
    "daily_tokens": [5e-324, 1, 1e12, None],
    "daily_cost": [5e-324, 1e12, None],
}
PIPELINE = ("on_too_long", "max_attempts", "live_share", "daily_tokens", "daily_cost")


def options(names):
    """Options of which some are there and may be right."""
    right = {name: RIGHT.get(name, [1, 2, 100]) for name in names}
    one = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(right[name])))
    good = st.lists(one, max_size=4).map(dict)
    return st.one_of(good, good, good, st.dictionaries(st.sampled_from(names), VALUES, max_size=3))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(options(ENDPOINT), options(MODEL), options(PIPELINE))
def test_whatever_options_are_given_what_is_taken_works(db, docs, provider, endpoint, model, pipeline):
    """Each is refused with a reason, or a row is embedded with it and every view shows it."""
    db.execute("SELECT embed_drop('docs', if_exists => true)")
    db.execute("SELECT embed_model_drop(name) FROM embed.model m (id, name) WHERE name = 'loop'")
    endpoint.pop("proxy", None)  # a good one would send the row elsewhere
    calls = [
        ("SELECT embed_endpoint_set('loop', %s, options => %s)", (provider.url, json.dumps(endpoint))),
        ("SELECT embed_model_add('loop', 'openai', 8, endpoint => 'loop', options => %s)", (json.dumps(model),)),
        (
            "SELECT embed_create('docs', 'docs', columns => '{title}', model => 'loop', options => %s)",
            (json.dumps(pipeline),),
        ),
    ]
    for statement, parameters in calls:
        state, wrong = complaint(db, db, statement, parameters)
        if state:
            assert wrong is None
            assert state in {"22023", "0A000"}
            return
    db.execute("SELECT embed_drain(max_runtime => '0.5 s')")
    look(db)
    db.execute("SELECT * FROM embed_estimate('docs')")
    error = status_of(db, "last_error")
    assert error is None or "Error" not in error


@pytest.mark.parametrize("call", ["SELECT embed_drain()", "CALL embed_work()"])
def test_a_cancel_leaves_no_lock_behind(connect, db, call):
    """Whenever it comes; the session lives on in a pool."""
    db.execute(
        "CREATE FUNCTION toy(texts text[]) RETURNS vector[] LANGUAGE sql"
        " RETURN (SELECT array_agg('[1,2]'::vector) FROM unnest(texts))"
    )
    db.execute("""SELECT embed_model_add('toy', 'function', 2, 'toy', options => '{"inputs": 1}')""")
    table(db, "docs", 3000)
    create(db, "docs", "toy", daily_tokens=1_000_000_000)
    session, dice = connect(), random.Random(1)
    locks = "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
    left = []
    for _ in range(60):
        session.execute("SELECT set_config('statement_timeout', %s, false)", (f"{dice.randint(30, 80)} ms",))
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(call)
        left += db.execute(locks, (session.info.backend_pid,)).fetchall()
    assert left == []
