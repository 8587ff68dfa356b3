"""Servers that need a query string, or a key in a header of their own: Azure OpenAI, Gemini, gateways.

The kind: what an endpoint needs beside its URL and a bearer key. A pasted URL works; keys are secrets by name in every
place; nothing that is sent can change where a request ends, who reads it, or be sent twice.
"""

import json

import psycopg
import psycopg.types.json
import pytest

from evergreen.core.errors import ModelError
from tests.fixtures.error_checks import refused
from tests.fixtures.providers import faults

pytestmark = pytest.mark.shared_database

KEY = "sk-Zr7QmW2vT9+xLpB4nKd8s/c3f"  # + and / are sent percent-encoded in a query string
SET = "SELECT embed_endpoint_set('az', %s, secret => %s, options => %s)"


@pytest.fixture
def keyed(monkeypatch):
    """The name of a secret in this process's environment."""
    monkeypatch.setenv("EVERGREEN_SECRET_key", KEY)
    return "key"


@pytest.fixture
def azure(provider):
    """The base of an Azure resource on loopback."""
    return f"http://127.0.0.1:{provider.port}/openai"


def set_up(db, url, options=None, secret=None):
    """Set the endpoint and register a model on it; return what was said: severity, SQLSTATE, message and hint."""
    said = []

    def hear(told):
        said.append((told.severity, told.sqlstate, told.message_primary, told.message_hint))

    db.add_notice_handler(hear)
    db.execute(SET, (url, secret, json.dumps(options or {})))
    db.remove_notice_handler(hear)
    db.execute("SELECT embed_model_add('m', 'openai', 8, endpoint => 'az')")
    return said


@pytest.mark.parametrize("path", ["deployments/e/embeddings", "deployments/e", "deployments/e/"])
def test_a_pasted_url_of_an_azure_deployment_works(ask, azure, provider, keyed, path):
    """Its key goes into the header ``api-key``; a bearer there is an Entra token."""
    ask("openai", ["x"], url=f"{azure}/{path}", endpoint={"query": {"api-version": "2024-02-01"}}, secret=keyed)
    (call,) = provider.calls
    assert (call.path, call.query) == ("/openai/deployments/e/embeddings", {"api-version": "2024-02-01"})
    assert call.headers["api-key"] == KEY
    assert "authorization" not in call.headers


def test_azures_v1_takes_a_bearer(ask, azure, provider, keyed):
    ask("openai", ["x"], url=f"{azure}/v1", secret=keyed)
    (call,) = provider.calls
    assert (call.path, call.query) == ("/openai/v1/embeddings", {})
    assert call.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.slow
def test_the_query_string_of_a_url_becomes_an_option(db, azure, provider):
    url = f"{azure}/deployments/e/embeddings?api-version=2024-02-01&x=a%20b&y="
    set_up(db, url, {"query": {"n": 5, "api-version": "2024-02-01"}})
    assert db.execute("SELECT url, options FROM embed_endpoints").fetchone() == (
        f"{azure}/deployments/e/embeddings",
        {"query": {"api-version": "2024-02-01", "x": "a b", "y": "", "n": 5}},
    )
    db.execute("SELECT embed('text', 'm')")
    (call,) = provider.calls
    assert call.query == {"api-version": "2024-02-01", "x": "a b", "y": "", "n": "5"}


@pytest.mark.parametrize(
    "name", ["api-key", "x-goog-api-key", "X-Api-Key", "Authorization", "Ocp-Apim-Subscription-Key"]
)
def test_a_key_in_a_header_alone(ask, provider, keyed, name):
    ask("openai", ["x"], endpoint={"headers": {name: {"secret": keyed}, "X-Tenant": "acme"}})
    (call,) = provider.calls
    assert call.headers[name.lower()] == KEY
    assert call.headers["x-tenant"] == "acme"
    assert name == "Authorization" or "authorization" not in call.headers


@pytest.mark.parametrize("provider_name", ["openai", "ollama", "cohere", "voyage"])
def test_a_key_in_the_query_of_any_provider(ask, provider, keyed, provider_name):
    ask(provider_name, ["x"], endpoint={"query": {"key": {"secret": keyed}}, "headers": {"user-agent": "mine/1"}})
    (call,) = provider.calls
    assert call.query == {"key": KEY}
    assert call.headers["user-agent"] == "mine/1"


def test_a_header_goes_beside_the_secret(ask, provider, keyed):
    ask("openai", ["x"], endpoint={"headers": {"X-Api-Key": {"secret": keyed}}}, secret=keyed)
    (call,) = provider.calls
    assert (call.headers["x-api-key"], call.headers["authorization"]) == (KEY, f"Bearer {KEY}")


@pytest.mark.parametrize("option", ["headers", "query"])
@pytest.mark.parametrize("code", [200, 400, 401, 500])
@pytest.mark.parametrize("echo", [KEY, "POST /?key=sk-Zr7QmW2vT9%2BxLpB4nKd8s%2Fc3f", f"{KEY[:10]}..."])
def test_what_a_server_repeats_of_a_key_is_struck_out(ask, provider, keyed, option, code, echo):
    provider.fail(faults.status(code, echo.encode()))
    with pytest.raises(ModelError) as found:
        ask("openai", ["x"], endpoint={option: {"api-key": {"secret": keyed}}})
    said = f"{found.value!r} {found.value.log_message}"
    pieces = [form[i : i + 8] for form in (KEY, echo) for i in range(len(form) - 7) if "Zr7Q" in form[i : i + 8]]
    assert not [piece for piece in pieces if piece in said]


LITERAL_KEYS = {
    "query": [{"key": KEY}, {"api_key": "abc"}, {"sig": "abc"}, {"code": "abc"}, {"x": KEY}, {"x": "AIzaSyA-1"}],
    "headers": [
        *({"api-key": KEY}, {"X-Auth-Token": "abc"}, {"Authorization": "Bearer abc"}, {"Cookie": "a=b"}),
        *({"x-goog-api-key": "abc"}, {"X-Any": f"Bearer {KEY}"}, {"accessToken": "abc"}),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("option", LITERAL_KEYS)
def test_a_key_in_place_of_the_name_of_a_secret_is_refused_unseen(db, azure, option):
    for value in LITERAL_KEYS[option]:
        error = refused(db, SET, (f"{azure}/v1", None, json.dumps({option: value})))
        assert error.sqlstate == "22023", value
        assert KEY[3:] not in f"{error} {error.diag.message_hint}"
        assert '{"secret": "name_of_the_file"}' in error.diag.message_hint


@pytest.mark.slow
def test_a_key_in_a_pasted_url_is_refused_unseen(db):
    for query in ("key=hunter2", "a=1&api_key=hunter2", "x=sk-hunter2", "hunter2", "sk-hunter2=", "a=1&a=2"):
        error = refused(db, SET, (f"https://models.example.com/v1?{query}", None, "{}"))
        assert "hunter2" not in f"{error} {error.diag.message_hint}"
        assert '"query"' in error.diag.message_hint


HOSTILE = {
    "headers": [
        *({name: "x"} for name in ("Host", "content-length", "Transfer-Encoding", "Connection", "Proxy-X")),
        *({name: "x"} for name in ("Content-Type", "Accept-Encoding", "TE", "Upgrade", "Expect", "OpenAI-Project")),
        *({name: "x"} for name in ("", "a b", "a:b", "a\r\nHost: evil", "é", "a" * 101, "a\t")),
        *({"X-A": value} for value in ("a\r\nX-B: 1", "a\nb", "é", " a", "a ", "a" * 1001, None, True, [], {"a": 1})),
        *({"X-A": {"secret": value}} for value in ("../x", "/etc/passwd", "", None, 5, KEY)),
        {"X-A": {"secret": "key", "more": 1}},
        {"X-A": "1", "x-a": "2"},
        {f"X-{i}": "1" for i in range(21)},
        [],
        "X-A: 1",
    ],
    "query": [
        *({name: "x"} for name in ("", "a b", "a&b=c", "a=b", "é", "#", "a\nb")),
        *({"a": value} for value in ("a\nb", "a\r\n", None, True, [], {}, {"secret": "../x"}, "a" * 1001)),
        [],
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("option", HOSTILE)
def test_what_would_change_the_request_is_refused(db, azure, option):
    for value in HOSTILE[option]:
        error = refused(db, SET, (f"{azure}/v1", None, json.dumps({option: value})))
        assert error.sqlstate == "22023", value
        assert KEY not in f"{error} {error.diag.message_hint}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "name"), [("v1", "Authorization"), ("v1", "authorization"), ("deployments/e", "API-Key")]
)
def test_the_key_is_not_sent_twice(db, azure, path, name):
    options = json.dumps({"headers": {name: {"secret": "key"}}})
    assert "secret" in str(refused(db, SET, (f"{azure}/{path}", "key", options)))


@pytest.mark.slow
def test_a_parameter_that_is_given_twice_is_refused(db, azure):
    options = json.dumps({"query": {"api-version": "2024-10-21"}})
    assert "once" in refused(db, SET, (f"{azure}/v1?api-version=preview", None, options)).diag.message_hint


@pytest.mark.fresh_database
@pytest.mark.slow
@pytest.mark.parametrize("where", ["secret", "headers", "query"])
def test_a_secret_that_cannot_be_read_is_said_when_it_is_set(db, azure, where):
    options = {} if where == "secret" else {where: {"api-key": {"secret": "not_there"}}}
    ((severity, sqlstate, message, hint),) = set_up(
        db, f"{azure}/v1", options, secret="not_there" if where == "secret" else None
    )
    assert (severity, sqlstate) == ("WARNING", "01000")
    assert 'secret "not_there" is neither a file in' in message
    assert "install -m 0640" in hint
    problem, remedy = db.execute("SELECT problem, remedy FROM embed_endpoints").fetchone()
    assert problem in message
    assert remedy in hint
    with pytest.raises(psycopg.Error) as found:
        db.execute("SELECT embed('text', 'm')")
    assert remedy in found.value.diag.message_hint


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
        "batch_api": ["cohere", "OpenAI", "", None, True, ["openai"], {}],
        "batch_discount": [-0.1, 1, 50, "0.5", True, None],
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
            "batch_api": "openai",
            "batch_discount": 0,
        },
    }
    for of, options in good.items():
        db.execute(CALLS[of], (psycopg.types.json.Jsonb(options),))
