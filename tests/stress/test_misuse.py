"""Budgets in corners, views in odd places, wrong input, and people who name things as we do."""

import json
import random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.error_checks import complaint, refused
from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.pipelines.endpoints import create, serve, table
from tests.stress.test_misuse_of_views import look

pytestmark = pytest.mark.stress


def words(db, rows, name="docs"):
    """Rows of texts whose tokens are what they are estimated at: five each, as billed."""
    db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, title text, body text)")
    db.execute(
        f"INSERT INTO {name} SELECT i, 'abc abc abc', lpad(i::text, 5, 'x') || ' x' FROM generate_series(1, {rows}) i"
    )


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
