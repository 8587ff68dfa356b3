"""What requests does for a browser and nothing here wants: logins, bundles and proxies of the environment, cookies."""

import time

import pytest

from evergreen.core.errors import ConfigurationError
from tests.fixtures.providers import faults

TEXTS = ["one"]


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    """A .netrc with a login for every host."""
    path = tmp_path / "netrc"
    path.write_text("default login me password mine\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


def test_no_login_of_a_netrc_is_sent(ask, provider, netrc):
    ask("openai", TEXTS)
    assert "authorization" not in provider.calls[0].headers


def test_a_netrc_replaces_no_key(ask, provider, netrc, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    ask("openai", TEXTS, secret="key")
    assert provider.calls[0].headers["authorization"] == "Bearer sk-0123456789"


def test_only_our_own_headers_are_sent(ask, provider):
    ask("openai", TEXTS)
    sent = {name: value for name, value in provider.calls[0].headers.items() if name not in {"host", "content-length"}}
    assert sent == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "evergreen",
    }


def test_no_cookie_is_kept(ask, provider):
    provider.fail(faults.headers(Set_Cookie="who=me; Path=/"))
    for _ in range(2):
        ask("openai", TEXTS)
    assert not any("cookie" in call.headers for call in provider.calls)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_the_body_of_a_redirect_is_not_read_to_its_end(ask, provider, encoding):
    def elsewhere(reply):
        reply.status = 307
        reply.headers |= {"Location": "/v1/embeddings", "Content-Encoding": encoding}

    provider.fail(faults.endless())
    provider.fail(elsewhere)
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="307"):
        ask("openai", TEXTS)
    assert time.monotonic() - started < 5
    assert len(provider.requests) == 1
