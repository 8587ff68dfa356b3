"""A GET has the guards of every other request: where it may go, for how long, and how much it may take in."""

import threading
import time

import orjson
import pytest

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ConfigurationError, RetryableError
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.http import client
from tests.fixtures.providers import faults, protocols
from tests.fixtures.waiting import wait_until


@pytest.fixture
def get(provider):
    """Get the list of models: ``get(largest=…, secret=…, total_timeout=…)``."""

    def asked(*, largest=100_000, longest=20.0, host="127.0.0.1", secret=None, canceller=None, **options):
        endpoint = Endpoint("here", provider.url, secret, options)
        url = f"http://{host}:{provider.port}{protocols.LISTING}"
        canceller = canceller or RequestCanceller()
        return client.send("GET", endpoint, url, largest=largest, canceller=canceller, headers={}, longest=longest)

    return asked


def test_the_answer_is_read(get, provider):
    provider.digests["m"] = "0a109f422b47"
    (found,) = orjson.loads(get().body)["models"]
    assert (found["name"], found["digest"]) == ("m", "0a109f422b47")


def test_the_key_goes_along_and_is_masked(get, provider, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    provider.fail_listing(faults.status(403, b"sk-0123456789 may not"))
    with pytest.raises(ConfigurationError) as refused:
        get(secret="key")
    assert provider.listings[0].headers["authorization"] == "Bearer sk-0123456789"
    assert "0123456789" not in str(refused.value)


def test_no_body_is_sent(get, provider):
    get()
    assert provider.listings[0].headers.get("content-length", "0") == "0"


def test_no_redirect_is_followed(get, provider):
    provider.fail_listing(faults.redirect(protocols.LISTING))
    with pytest.raises(ConfigurationError, match="307"):
        get()
    assert len(provider.listings) == 1


@pytest.mark.parametrize("fault", [faults.endless(), faults.endless(in_chunks=True), faults.endless_headers()])
def test_an_answer_without_an_end_is_cut_by_its_size(get, provider, fault):
    provider.fail_listing(fault)
    with pytest.raises(RetryableError, match=r"larger|broke"):
        get()


@pytest.mark.parametrize("given", [{"total_timeout": 0.5}, {"longest": 0.5}])
def test_the_shorter_time_limit_holds(get, provider, given):
    provider.fail_listing(faults.trickling_body(provider.stopped.wait))
    started = time.monotonic()
    with pytest.raises(RetryableError, match=r"within 0\.5 s"):
        get(**given)
    assert time.monotonic() - started < 5


def test_an_address_that_requests_may_not_reach(get, provider):
    with pytest.raises(ConfigurationError):
        get(host="169.254.169.254")
    assert provider.listings == []


def test_it_can_be_canceled(get, provider):
    provider.hold()
    canceller = RequestCanceller()

    def cancel():
        wait_until(lambda: provider.listings)
        canceller.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(RetryableError):
        get(canceller=canceller)
    assert time.monotonic() - started < 10
