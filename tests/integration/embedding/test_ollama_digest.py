"""Ollama's digest of a model: asked of the server after an answer, now and then, and never in the way of vectors."""

import time

import pytest

from evergreen.core.embedding import Request
from tests.fixtures.providers import faults
from tests.fixtures.providers.direct import SERVED, model_of

OLD, NEW = "0a109f422b47" + "0" * 52, "b7f5c0c1d2e3" + "0" * 52


def ask(provider, *, is_look=False, kind="document", name="m", **given):
    model = model_of("ollama", provider.url_of("ollama"), name=name, **given)
    return SERVED["ollama"].embed(model, Request(["text"], kind, is_look=is_look)).served_as


@pytest.mark.parametrize(
    ("name", "listed"),
    [("m", "m:latest"), ("m:latest", "m:latest"), ("m:latest", "m"), ("m", "m"), ("m:137m", "m:137m")],
)
def test_the_name_goes_with_the_digest(provider, name, listed):
    provider.digests |= {listed: OLD, f"{name}-large": NEW}
    assert ask(provider, name=name) == f"{name}@0a109f422b47"


def test_another_tag_is_another_model(provider):
    provider.digests["m:137m"] = OLD
    assert ask(provider) == "m"


@pytest.mark.parametrize("digest", [7, None, "", "latest", "0a109f422b4"])
def test_what_is_no_digest_is_not_shown(provider, digest):
    provider.digests["m"] = digest
    assert ask(provider) == "m"


def test_rows_have_it_asked_once_a_minute_and_looks_each_time(provider):
    provider.digests["m"] = OLD
    assert ask(provider) == ask(provider)
    provider.digests["m"] = NEW
    assert ask(provider) == "m@0a109f422b47"
    assert len(provider.listings) == 1
    assert ask(provider, is_look=True) == "m@b7f5c0c1d2e3"
    assert ask(provider) == "m@b7f5c0c1d2e3"
    assert len(provider.listings) == 2


def test_questions_do_not_wait_for_it(provider):
    provider.digests["m"] = OLD
    ask(provider, kind="query")
    assert provider.listings == []


@pytest.mark.parametrize("path", ["", "/api", "/api/embed"])
def test_it_is_asked_of_the_same_server(provider, path):
    provider.digests["m"] = OLD
    model = model_of("ollama", provider.url_of("ollama") + path)
    assert SERVED["ollama"].embed(model, Request(["text"], "document")).served_as == "m@0a109f422b47"


def test_the_key_goes_along(provider, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    ask(provider, secret="key")
    assert provider.listings[0].headers["authorization"] == "Bearer sk-0123456789"


@pytest.mark.parametrize("fault", [faults.status(404), faults.status(401), faults.redirect("/")])
def test_a_server_without_a_list_has_only_the_name(provider, fault):
    provider.fail_listing(fault)
    assert ask(provider) == "m"


@pytest.mark.parametrize("fault", [faults.status(500), faults.html(), faults.reset(), faults.endless()])
def test_a_list_that_fails_says_nothing_new(provider, fault):
    provider.fail_listing(fault)
    assert ask(provider) is None
    provider.mend()
    provider.digests["m"] = OLD
    ask(provider, is_look=True)
    provider.fail_listing(fault)
    assert ask(provider, is_look=True) == "m@0a109f422b47"


def test_a_list_that_does_not_come_delays_vectors_by_seconds_at_most(provider):
    provider.fail_listing(faults.trickling_body(provider.stopped.wait))
    started = time.monotonic()
    assert ask(provider) is None
    assert time.monotonic() - started < 10
    ask(provider)
    assert len(provider.listings) == 1
