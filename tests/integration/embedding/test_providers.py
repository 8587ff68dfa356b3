"""Each provider end to end through SQL: the right path, input type, prompts, order, limits, and what is billed."""

import json

import numpy as np
import orjson
import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.providers import faults
from tests.fixtures.providers.direct import SERVED
from tests.fixtures.providers.loopback import vector

pytestmark = pytest.mark.shared_database

KINDS = {
    "openai": {"document": {}, "query": {}},
    "ollama": {"document": {"truncate": False}, "query": {}},
    "cohere": {
        "document": {"input_type": "search_document", "truncate": "NONE"},
        "query": {"input_type": "search_query"},
    },
    "voyage": {"document": {"input_type": "document", "truncation": False}, "query": {"input_type": "query"}},
}


def piped(db, provider, name, **given):
    provider.register(db, "m", provider=name, **given)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'm')")


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_documents_and_questions_go_where_they_belong(db, docs, provider, name):
    piped(db, provider, name)
    drain_all(db)
    assert_as_source(db)
    assert all(KINDS[name]["document"].items() <= call.body.items() for call in provider.calls)
    assert {call.path for call in provider.calls} == {provider.calls[0].protocol.path}
    assert sum(provider.sent.values()) == 10
    provider.reset()
    found = db.execute("SELECT embed_query('docs', 'a question')::text").fetchone()[0]
    assert orjson.loads(found) == pytest.approx(vector("a question", 8), abs=1e-6)
    (call,) = provider.calls
    assert KINDS[name]["query"].items() <= call.body.items()
    assert (call.protocol.name, call.texts, call.body["model"]) == (name, ["a question"], "m")


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_prompts_stand_before_the_texts(db, docs, provider, name):
    piped(db, provider, name, document_prompt="passage: ", query_prompt="query: ")
    drain_all(db)
    assert set(provider.sent) == {f"passage: title {i}\n\nbody {i}" for i in range(1, 11)}
    provider.reset()
    db.execute("SELECT embed_query('docs', 'a question')")
    assert list(provider.sent) == ["query: a question"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_dimensions_are_asked_for_when_told_to(db, docs, provider, name):
    provider.dimensions = 4
    provider.register(db, "short", provider=name, send_dimensions=True)
    provider.dimensions = 16
    provider.register(db, "whole", provider=name)
    for model in ("whole", "short"):
        db.execute("SELECT embed('text', %s)", (model,))
    assert [call.dimensions for call in provider.calls] == [None, 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_ignores_the_dimensions_stops_the_pipeline_and_loses_no_row(db, docs, provider, name):
    piped(db, provider, name, send_dimensions=True)
    provider.fail(faults.each(lambda v: v * 2))
    db.execute("SELECT embed_drain()")
    pending, failed, said = db.execute("SELECT pending, failed, last_error FROM embed_status").fetchone()
    assert (pending, failed) == (10, 0)
    assert "8 dimensions" in said
    assert "ignores" in said


@pytest.mark.parametrize("name", SERVED)
def test_a_secret_is_sent_as_a_bearer_and_stands_nowhere(ask, provider, name, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    ask(name, ["text"], secret="key")
    assert provider.calls[0].headers["authorization"] == "Bearer sk-0123456789"
    ask(name, ["text"])
    assert "authorization" not in provider.calls[1].headers


@pytest.mark.parametrize("name", SERVED)
def test_what_is_sent_asks_for_no_compression_and_keeps_no_cookie(ask, provider, name):
    provider.fail(faults.headers(Set_Cookie="a=b; Path=/"), times=1)
    for _ in range(2):
        ask(name, ["text"])
    assert {call.headers["accept-encoding"] for call in provider.calls} == {"identity"}
    assert not any("cookie" in call.headers for call in provider.calls)


def test_whom_openai_bills_is_said_in_headers(ask, provider):
    ask("openai", ["text"], endpoint={"organization": "org-1", "project": "proj_2"})
    headers = provider.calls[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj_2")


@pytest.mark.parametrize("name", ["openai", "voyage"])
@pytest.mark.parametrize("asked", ["base64", "float"])
@pytest.mark.parametrize("given", ["base64", "float"])
def test_vectors_are_read_as_they_come(ask, provider, name, asked, given):
    """A gateway may give either, whatever it was asked for."""
    if given != asked:
        rewritten = faults.in_base64() if given == "base64" else faults.reshaped(as_floats)
        provider.fail(rewritten)
    (found,) = ask(name, ["some text"], encoding_format=asked).vectors
    assert found.dtype == np.float32
    assert found == pytest.approx(vector("some text", 8), abs=1e-6)
    assert provider.calls[0].body.get("encoding_format", "float") == asked


def as_floats(answer):
    import base64

    data = [
        {**item, "embedding": np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist()}
        for item in answer["data"]
    ]
    return {**answer, "data": data}


@pytest.mark.parametrize("name", SERVED)
def test_tokens_are_those_that_are_billed(ask, provider, name):
    assert ask(name, ["one", "two words"]).tokens == 3


@pytest.mark.parametrize(
    "usage", [None, {}, {"total_tokens": None}, {"total_tokens": "3"}, {"total_tokens": -1}, [], {"total_tokens": True}]
)
def test_tokens_that_are_not_told_are_not_known(ask, provider, usage):
    provider.fail(faults.reshaped(lambda answer: {**answer, "usage": usage}))
    assert ask("openai", ["one", "two words"]).tokens is None


def test_prompt_tokens_stand_in_for_the_total(ask, provider):
    provider.fail(faults.reshaped(lambda answer: {**answer, "usage": {"prompt_tokens": 7}}))
    assert ask("openai", ["one"]).tokens == 7


@pytest.mark.parametrize("name", ["ollama", "cohere", "voyage"])
def test_the_server_may_cut_texts_where_the_request_says_so(ask, provider, name):
    for truncate in (False, True):
        ask(name, ["text"], truncate=truncate)
    field = {"ollama": "truncate", "cohere": "truncate", "voyage": "truncation"}[name]
    said = [call.body[field] for call in provider.calls]
    assert said == (["NONE", "END"] if name == "cohere" else [False, True])


def test_cohere_is_understood_by_its_type_or_without(ask, provider):
    for change in (lambda e: e, lambda e: e["float"], lambda e: {"base64": e["float"]}):
        provider.mend()
        provider.fail(faults.reshaped(lambda a, change=change: {**a, "embeddings": change(a["embeddings"])}))
        assert ask("cohere", ["text"]).vectors[0] == pytest.approx(vector("text", 8), abs=1e-6)


LIMITS = {
    "openai": {"text-embedding-3-small": (2048, 300_000, 8192)},
    "ollama": {"nomic-embed-text": (32, 16_384, None)},
    "cohere": {"embed-v4.0": (96, 128_000, 128_000), "embed-english-v3.0": (96, None, 512)},
    "voyage": {
        "voyage-3.5": (1000, 320_000, 32_000),
        "voyage-3.5-lite": (1000, 1_000_000, 32_000),
        "voyage-code-3": (1000, 120_000, 32_000),
        "voyage-law-2": (1000, 120_000, 16_000),
    },
}


def shown(db, name):
    columns = "inputs, request_tokens, input_tokens"
    return db.execute(f"SELECT {columns} FROM embed_models WHERE model = %s", (name,)).fetchone()


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_limits_are_the_providers_unless_options_say_otherwise(db, provider, name):
    db.execute("SELECT embed_endpoint_set('e', %s)", (provider.url_of(name),))
    add = "SELECT embed_model_add(%s, %s, 8, endpoint => 'e', remote_name => %s, options => %s)"
    for remote, limits in LIMITS[name].items():
        db.execute(add, (remote, name, remote, "{}"))
        assert shown(db, remote) == limits
        db.execute(add, (f"{remote} less", name, remote, '{"inputs": 3, "request_tokens": 100, "input_tokens": 50}'))
        assert shown(db, f"{remote} less") == (3, 100, 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_requests_stay_within_the_inputs(db, docs, provider, name):
    piped(db, provider, name, inputs=3)
    drain_all(db)
    assert max(map(len, provider.requests)) == 3
    assert sum(map(len, provider.requests)) == 10


@pytest.mark.slow
def test_every_provider_shows_in_the_view_and_no_url_does(db, provider):
    for name in SERVED:
        provider.register(db, name, provider=name, price=0.02, endpoint={"organization": "org-1"})
    rows = db.execute("SELECT to_jsonb(v) FROM embed_models v").fetchall()
    models = {row["model"]: row for (row,) in rows}
    assert set(SERVED) < set(models)
    assert models["voyage"]["price"] == pytest.approx(0.02)
    assert (models["wordllama-256"]["built_in"], models["voyage"]["built_in"]) == (True, False)
    assert "127.0.0.1" not in json.dumps(rows)
    assert "org-1" not in json.dumps(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_a_provider_behind_http_needs_an_endpoint(db, name):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"provider {name} needs an endpoint"):
        db.execute("SELECT embed_model_add('m', %s, 8)", (name,))
