"""The same over TLS: trusted or not, slow, and cut from outside."""

import socket
import ssl
import subprocess
import threading
import time

import pytest

from evergreen.core.embedding import Request, RequestCanceller
from evergreen.core.errors import RetryableError
from evergreen.embedding.http import client
from tests.fixtures.providers import faults
from tests.fixtures.providers.direct import SERVED, model_of
from tests.fixtures.providers.loopback import LoopbackProvider, vector

_MAKE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -out c.pem -days 1"
    " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with a self-signed certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(_MAKE.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def secure(certificate):
    """The loopback model behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "c.pem", certificate / "k.pem")
    made = LoopbackProvider()
    made._server.socket = context.wrap_socket(made._server.socket, server_side=True)
    with made:
        yield made


@pytest.fixture
def trusted(certificate, monkeypatch):
    """This machine trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "c.pem"))
    client._made.cache_clear()
    yield
    client._made.cache_clear()


def ask(provider, texts=("text",), host="localhost", canceller=None, **endpoint):
    url = f"https://{host}:{provider.port}/v1"
    request = Request(list(texts), "query", canceller=canceller or RequestCanceller())
    return SERVED["openai"].embed(model_of("openai", url, endpoint=endpoint), request)


def test_a_server_that_this_machine_trusts_is_asked(secure, trusted):
    for _ in range(2):
        assert ask(secure).vectors[0] == pytest.approx(vector("text", 8), abs=1e-6)


def test_a_server_that_nobody_vouches_for_gets_nothing(secure):
    with pytest.raises(RetryableError, match="self-signed certificate"):
        ask(secure)
    assert secure.requests == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_that_requests_would_take_vouches_for_nobody(secure, certificate, monkeypatch, name):
    """What is trusted is what this machine trusts: requests' own variables are not asked."""
    monkeypatch.setenv(name, str(certificate / "c.pem"))
    with pytest.raises(RetryableError, match="self-signed certificate"):
        ask(secure)
    assert secure.requests == []


def test_a_certificate_of_another_name_is_none(secure, trusted):
    with pytest.raises(RetryableError, match="mismatch"):
        ask(secure, host="127.0.0.1")
    assert secure.requests == []


@pytest.mark.parametrize("fault", [faults.trickling_headers, faults.trickling_body])
def test_a_server_that_trickles_meets_the_total_time_out(secure, trusted, fault):
    secure.fail(fault(secure.stopped.wait))
    with pytest.raises(RetryableError, match=r"within 0\.5 s"):
        ask(secure, read_timeout=30, total_timeout=0.5)


def test_a_large_text_goes_out_and_large_answers_come_in(secure, trusted):
    texts = [f"{i} " * 10_000 for i in range(200)]
    assert len(ask(secure, texts).vectors) == 200


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_a_request_can_be_cut_from_outside(secure, trusted, slow, kept):
    if kept:
        ask(secure)
        secure.reset()
    if slow:
        secure.fail(faults.trickling_body(secure.stopped.wait))
    else:
        secure.hold()
    canceller = RequestCanceller()

    def cut():
        secure.wait_for_requests(1)
        canceller.cancel()

    threading.Thread(target=cut, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(RetryableError):
        ask(secure, canceller=canceller)
    assert time.monotonic() - started < 10


def test_a_server_that_does_not_shake_hands_meets_the_time_to_connect():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/v1"
        chosen = model_of("openai", url, endpoint={"connect_timeout": 0.2, "total_timeout": 60})
        started = time.monotonic()
        with pytest.raises(RetryableError):
            SERVED["openai"].embed(chosen, Request(["text"], "query"))
        assert time.monotonic() - started < 10


def test_a_handshake_can_be_cut_from_outside():
    canceller, over = RequestCanceller(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut():
            with server.accept()[0] as wire:
                wire.recv(1)  # the first byte of the handshake has come
                canceller.cancel()
                over.wait(60)

        threading.Thread(target=cut, daemon=True).start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/v1"
        chosen = model_of("openai", url, endpoint={"connect_timeout": 30, "total_timeout": 60})
        started = time.monotonic()
        with pytest.raises(RetryableError):
            SERVED["openai"].embed(chosen, Request(["text"], "query", canceller=canceller))
        over.set()
        assert time.monotonic() - started < 10
