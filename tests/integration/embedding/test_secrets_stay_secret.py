"""A key goes to its server and nowhere else: not into errors, tables, views, or a role that may not spend it."""

import logging
import traceback

import psycopg
import psycopg.types.json
import pytest

from evergreen.core.errors import ModelError
from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_once, status_of
from tests.fixtures.providers import faults
from tests.fixtures.providers.direct import SERVED
from tests.fixtures.roles import people

KEY = "sk-proj-0123456789abcdefghij"
ECHOES = [
    f'{{"error": "Incorrect API key provided: {KEY}."}}',
    f"Bearer {KEY}",
    f"{KEY}" * 50,
    "x" * 190 + KEY,
    f"key {KEY[:12]} is unknown",
    f"key ...{KEY[-12:]} is unknown",
]


@pytest.fixture
def keyed(monkeypatch):
    """The name of a secret in this process's environment."""
    monkeypatch.setenv("EVERGREEN_SECRET_key", KEY)
    return "key"


def said(error):
    """All that an error and those below it hold, as a log would show it with the values of locals."""
    shown = []
    while error is not None:
        shown += [repr(error), str(error), repr(error.args), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "".join(shown)


def without_key(text):
    return not any(KEY[i : i + 8] in text for i in range(len(KEY) - 7))


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("code", [200, 400, 401, 429, 500, 302])
def test_a_server_that_repeats_the_key(ask, provider, keyed, echo, code):
    provider.fail(faults.status(code, echo.encode()))
    with pytest.raises(ModelError) as found:
        ask("openai", ["text"], secret=keyed)
    assert without_key(said(found.value))


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(
    "fault", [faults.html(), faults.noise(), faults.reset(), faults.truncated(), faults.count(1), faults.count(-1)]
)
def test_whatever_goes_wrong_the_key_is_in_no_error_and_no_log(ask, provider, keyed, name, fault, caplog):
    caplog.set_level(logging.DEBUG)
    provider.fail(fault)
    with pytest.raises(ModelError) as found:
        ask(name, ["text"], secret=keyed)
    assert without_key(said(found.value))
    assert without_key(caplog.text)


@pytest.mark.slow
def test_a_secret_that_is_missing_is_named_with_its_places(db, docs, provider):
    provider.register(db, secret="nowhere")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain_once(db)
    assert "EVERGREEN_SECRET_nowhere" in status_of(db, "last_error")
    assert status_of(db, "pending") == 10
    assert status_of(db, "failed") == 0
    assert not provider.sent


@pytest.mark.parametrize(
    "value", ["sk-proj/0123456789==", f"Bearer {KEY}", f"{KEY}\n", "../../etc/passwd", "/etc/passwd"]
)
def test_a_value_in_place_of_a_name_is_refused_unseen(db, value):
    error = refused(db, "SELECT embed_endpoint_set('e', 'https://models.example.com/v1', secret => %s)", (value,))
    assert value.strip() not in str(error)
    assert "name of a secret" in str(error)


@pytest.mark.parametrize("option", ["organization", "project", "proxy"])
@pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}é", f"http://user:{KEY}@proxy.example.com:3128", 5, "", None])
def test_an_option_that_may_hold_a_secret_is_not_repeated(db, option, value):
    if option != "proxy" and isinstance(value, str) and value.startswith("http"):
        pytest.skip("any printable identifier will do")
    options = psycopg.types.json.Jsonb({option: value})
    error = refused(db, "SELECT embed_endpoint_set('e', 'https://models.example.com', options => %s)", (options,))
    assert without_key(f"{error}{error.diag.message_detail}{error.diag.message_hint}")


OPTIONS = {
    "model": {
        "price": [-1, "0.02", True, None, [], 1e300],
        "inputs": [0, -1, 1.5, "5", True, 10**12],
        "request_tokens": [0, None],
        "input_tokens": [0, {}],
        "encoding_format": ["int8", 5, None],
        "document_prompt": [5, None],
        "send_dimensions": [1, "true"],
        "prise": [1],
    },
    "endpoint": {
        "requests_per_minute": [0, -1, "5", True, None, 1e300],
        "tokens_per_minute": [0, -5, []],
        "max_in_flight": [0, 65, 1.5, True],
        "total_timeout": [0, 241, "5"],
        "proxy": ["https://proxy.example.com", "socks5://proxy.example.com", "proxy", "http://proxy/path", "http://"],
        "organisation": ["org"],
    },
}
CALLS = {
    "model": "SELECT embed_model_add('m', 'hash', 8, options => %s)",
    "endpoint": "SELECT embed_endpoint_set('e', 'https://models.example.com', options => %s)",
}


@pytest.mark.parametrize(("of", "name"), [(of, name) for of, names in OPTIONS.items() for name in names])
def test_options_that_make_no_sense_are_refused_with_a_hint(db, of, name):
    for value in OPTIONS[of][name]:
        error = refused(db, CALLS[of], (psycopg.types.json.Jsonb({name: value}),))
        assert f'"{name}"' in error.diag.message_primary
        assert error.sqlstate == "22023"


def test_options_that_make_sense_are_taken(db):
    good = {
        "model": {"price": 0, "inputs": 1, "encoding_format": "float", "send_dimensions": False, "query_prompt": ""},
        "endpoint": {
            "requests_per_minute": 0.5,
            "tokens_per_minute": 1_000_000,
            "organization": "org-1",
            "project": "proj_1",
            "proxy": "http://proxy.example.com:3128",
            "max_in_flight": 64,
            "total_timeout": 0.5,
        },
    }
    for of, options in good.items():
        db.execute(CALLS[of], (psycopg.types.json.Jsonb(options),))


@pytest.mark.slow
def test_who_may_not_use_a_model_cannot_spend_on_it(db, connect, docs, provider):
    """Nor by SET ROLE, nor from a function of a role that may: the role that the call runs as counts."""
    people(db)
    provider.register(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    session = connect("bob")
    for call in ("SELECT embed('x', 'loop')", "SELECT embed_query('docs', 'x')", "SELECT embed_drain()"):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject)):
            session.execute(call)
    payer = connect()
    payer.execute("SET ROLE the_payer")
    with pytest.raises(psycopg.errors.UndefinedObject):
        payer.execute("SELECT embed_query('docs', 'x')")
    payer.execute("SET ROLE bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        payer.execute("SELECT embed('x', 'loop')")
    assert not provider.sent
    db.execute("GRANT SELECT ON docs TO bob")
    assert session.execute("SELECT embed_query('docs', 'x') IS NOT NULL").fetchone() == (True,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT embed('y', 'loop')")
    assert dict(provider.sent) == {"x": 1}


def test_who_administers_nothing_sees_no_url_and_no_endpoints_options(db, connect, provider):
    people(db)
    provider.register(db, endpoint={"organization": "org-1", "max_in_flight": 2}, secret="key_name")
    rows = str(connect("bob").execute("SELECT to_jsonb(v) FROM embed_models v").fetchall())
    assert "'loop'" in rows
    assert not any(hidden in rows for hidden in ("127.0.0.1", "org-1", "key_name"))
    for table in ("embed.endpoint", "embed.model"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connect("bob").execute(f"SELECT * FROM {table}")
