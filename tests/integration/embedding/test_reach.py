"""What a name resolves to is checked before anything is sent there; proxies and literals are no way round."""

import contextlib
import socket
import threading

import pytest

from evergreen.core.embedding import Request
from evergreen.core.errors import ConfigurationError, RetryableError
from tests.fixtures.providers.direct import SERVED, model_of

pytestmark = pytest.mark.shared_database

SHORT = {"connect_timeout": 1, "read_timeout": 1, "total_timeout": 2}


def ask(url, **endpoint):
    return SERVED["openai"].embed(model_of("openai", url, endpoint={**SHORT, **endpoint}), Request(["text"], "query"))


@pytest.fixture
def resolve(monkeypatch):
    """Let a name resolve to addresses: ``resolve('models.example.com', '127.0.0.1', …)``."""
    answers = {}
    real = socket.getaddrinfo

    def looked_up(host, port, *args, **kwargs):
        found = answers.get(host, [host])
        return [info for address in found for info in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    return lambda name, *addresses: answers.update({name: list(addresses)})


@pytest.fixture
def connected(monkeypatch):
    """Addresses that were connected to, or would have been: none is reached."""
    seen = []

    def connect(self, address):
        seen.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr("evergreen.embedding.http.transport._Socket.connect", connect)
    return seen


REFUSED = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "0.0.0.0",
    "0.1.2.3",
    "255.255.255.255",
    "224.0.0.251",
    "::",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::ffff:0:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:5ef5:79fd:0:0:5601:5601",  # Teredo holds the client's address with its bits turned round
    "2001:db8::5efe:169.254.169.254",
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("address", REFUSED)
def test_a_name_that_leads_where_no_model_is(resolve, connected, scheme, address):
    resolve("models.example.com", address)
    with pytest.raises(ConfigurationError, match="refused to talk"):
        ask(f"{scheme}://models.example.com/v1", allow_http=True)
    assert connected == []


LITERALS = ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0"]


@pytest.mark.parametrize("host", [*LITERALS, *(f"[{a}]" for a in REFUSED if ":" in a)])
@pytest.mark.parametrize("proxy", [{}, {"proxy": "http://127.0.0.1:1"}])
def test_an_address_in_the_url_that_is_refused(connected, host, proxy):
    """Through a proxy too, where it is not we who connect to it."""
    with pytest.raises(ConfigurationError, match="refused to talk"):
        ask(f"https://{host}/v1", **proxy)
    assert connected == []


def test_addresses_that_are_refused_are_left_out_where_there_are_others(resolve, connected):
    resolve("models.example.com", "169.254.169.254", "10.0.0.1", "fe80::1", "10.0.0.2")
    with pytest.raises(RetryableError, match="cannot be reached"):
        ask("https://models.example.com/v1")
    assert connected == ["10.0.0.1", "10.0.0.2"]


def test_a_proxy_that_is_refused(resolve, connected):
    resolve("proxy.example.com", "169.254.169.254")
    with pytest.raises(ConfigurationError, match="refused to talk"):
        ask("https://models.example.com/v1", proxy="http://proxy.example.com:3128")
    assert connected == []


@pytest.mark.parametrize("through", [{}, {"proxy": "http://proxy.example.com:3128"}])
def test_unencrypted_texts_stay_on_this_machine(resolve, connected, through):
    resolve("localhost", "10.0.0.1")
    resolve("proxy.example.com", "10.0.0.1")
    with pytest.raises(ConfigurationError, match="unencrypted"):
        ask("http://localhost:8080/v1", **through)
    assert connected == []
    with pytest.raises(RetryableError):
        ask("http://localhost:8080/v1", allow_http=True, **through)
    assert connected == ["10.0.0.1"]


def test_a_second_answer_of_the_resolver_is_not_asked_for(monkeypatch, connected):
    """Rebinding: what was checked is what is connected to."""
    answers = iter(["10.0.0.1", "169.254.169.254"])
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 443))]
    )
    with pytest.raises(RetryableError):
        ask("https://models.example.com/v1")
    assert connected == ["10.0.0.1"]


@pytest.mark.parametrize("name", ["x" * 64 + ".com", "a..b", ".a.b", "*.a.b", "no-such-name.invalid"])
def test_a_name_that_is_none(name):
    with pytest.raises(RetryableError, match="looked up"):
        ask(f"https://{name}/v1")


def test_proxies_of_the_environment_are_ignored(provider, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert len(ask(provider.url).vectors) == 1


@contextlib.contextmanager
def listening(answer):
    """A server of one connection; yields its port and what it was sent."""
    got = []

    def serve():
        with contextlib.suppress(OSError), server.accept()[0] as wire:
            got.append(wire.recv(65536))
            answer(wire)
            while more := wire.recv(65536):
                got.append(more)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], got


def test_a_proxy_that_was_asked_for_is_used(provider):
    with listening(lambda wire: wire.sendall(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")) as (port, got):
        with pytest.raises(RetryableError, match="503"):
            ask("http://models.example.com/v1", proxy=f"http://127.0.0.1:{port}", allow_http=True)
        assert got[0].startswith(b"POST http://models.example.com/v1/embeddings HTTP/1.1")


def test_through_a_proxy_https_stays_encrypted(monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    with listening(lambda wire: wire.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as (port, got):
        chosen = model_of(
            "openai", "https://models.example.com/v1", endpoint={**SHORT, "proxy": f"http://127.0.0.1:{port}"}
        )
        with pytest.raises(RetryableError):
            SERVED["openai"].embed(chosen, Request(["a text"], "query"))
    assert got[0].startswith(b"CONNECT models.example.com:443")
    sent = b"".join(got)
    assert b"sk-0123456789" not in sent
    assert b"a text" not in sent


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses(status):
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    with listening(lambda wire: wire.sendall(answer)) as (port, _), pytest.raises(RetryableError, match="proxy"):
        ask("https://models.example.com/v1", proxy=f"http://127.0.0.1:{port}")
