"""One request to an endpoint, and which error an answer means."""

import copy
import math
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import field, replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as TimedOut

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ConfigurationError, ModelError, RejectedError, RetryableError, doubtful, limited
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.http import addresses, answers, credentials, parameters, transport

MAX_BODY = 256 * 1024 * 1024
_HEADERS = 128 * 1024  # bytes of headers that a server may send
_REFUSAL = 16 * 1024  # how much of an error's body is read
_SHOWN = 200  # characters of a body in a message
_REJECTED = (400, 413, 422)
_CONFIGURATION = (401, 402, 403, 404, 405, 410)
_BUSY = 429
_ERRORS = 429  # from here on a server may say "too long" with a status of its own, as llama.cpp and Ollama do
_TOO_LONG = re.compile(
    rb"(?:input|text|prompt|sequence|document)[^.:]{0,60}too (?:long|large)|request too large|too many tokens"
    rb"|exceeds?[^.:]{0,40}(?:context|sequence|input|token)[ _-]?(?:length|size|window|limit)",
    re.IGNORECASE,
)
_USUAL = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "evergreen",
}
_making = threading.Lock()


class _NoCookies(RequestsCookieJar):
    """Takes no cookie: the next request of the process may be for texts of another owner."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Leave an answer's cookies unread."""


class HttpClient(requests.Session):
    """Sends what it is given and nothing of the environment's: no proxy, no login of .netrc, no certificate bundle."""

    def __init__(self, scheme: str) -> None:
        """``scheme``: the only one that it speaks."""
        super().__init__()
        self.trust_env = False
        self.headers = CaseInsensitiveDict(_USUAL)
        self.cookies = _NoCookies()
        self.adapters.clear()
        self.mount(f"{scheme}://", transport.Transport(secure=scheme == "https"))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect, and do not prepare to: that would read the whole body, and decompress it."""


def _client(scheme: str) -> HttpClient:
    """Return the client of this process; threads share its connections."""
    with _making:
        return _made(scheme)


@cache
def _made(scheme: str) -> HttpClient:
    return HttpClient(scheme)


@frozen
class Reply:
    """A body and the headers it came with."""

    body: bytes
    headers: Mapping[str, str]
    keys: tuple[str, ...] = field(default=(), repr=False)

    def shown(self) -> str:
        """Return the beginning of the body as it may stand in a message."""
        return repr(credentials.masked(self.body[:_REFUSAL].decode("utf-8", "replace"), *self.keys)[:_SHOWN])


def post(
    endpoint: Endpoint, url: str, body: bytes, *, largest: int, canceller: RequestCanceller, headers: Mapping[str, str]
) -> Reply:
    """Send a body by POST and return the answer of a 200; raises the ModelError that the answer means."""
    return send("POST", endpoint, url, body, largest=largest, canceller=canceller, headers=headers)


def send(
    method: str,
    endpoint: Endpoint,
    url: str,
    body: bytes | None = None,
    *,
    largest: int,
    canceller: RequestCanceller,
    headers: Mapping[str, str],
    longest: float = math.inf,
) -> Reply:
    """Send one request and return the answer of a 200; raises the ModelError that the answer means.

    ``largest``: bytes that the body of an answer can have; ``canceller`` ends the request from another thread;
    ``longest``: seconds for the whole answer, if fewer than the endpoint's ``total_timeout``.
    """
    own = parameters.resolve(endpoint)
    sent = {**headers, **own.headers}  # replaces what is usual, in upper or lower case
    if own.query:
        url = f"{url}?{own.query}"
    call = _call(endpoint, url, min(largest, MAX_BODY), canceller, longest)
    failure: ModelError
    try:
        with transport.calling(call):
            status, reply = _exchange(method, endpoint, url, body, sent, own.keys)
        if status == 200:  # noqa: PLR2004
            return reply
        failure = _refusal(status, reply)
    except ModelError as error:
        failure = error
        failure.log_message = str(error)
    except (HTTPError, OSError, ValueError) as error:  # ValueError: what is no HTTP at all
        failure = _broken(_cause(error), call)
        failure.log_message = str(failure)
    # Outside of the handlers: an error of the layers below would come along as its context, with the request in it.
    raise _at(failure, endpoint)


def _call(endpoint: Endpoint, url: str, largest: int, canceller: RequestCanceller, longest: float) -> transport.Call:
    names = {"connect": "connect_timeout", "read": "read_timeout", "total": "total_timeout"}
    given = {name: float(endpoint.options[o]) for name, o in names.items() if o in endpoint.options}
    timeouts = transport.Timeouts(**given)
    timeouts = replace(timeouts, total=min(timeouts.total, longest))
    plain = urlsplit(url).scheme == "http"
    loopback_only = plain and not endpoint.options.get("allow_http")
    return transport.Call(timeouts, time.monotonic() + timeouts.total, largest + _HEADERS, loopback_only, canceller)


def _exchange(
    method: str, endpoint: Endpoint, url: str, body: bytes | None, headers: Mapping[str, str], keys: tuple[str, ...]
) -> tuple[int, Reply]:
    parts = urlsplit(url)
    addresses.check_literal(parts.hostname or "")
    proxy = endpoint.options.get("proxy")
    response = _client(parts.scheme).request(
        method,
        url,
        data=body,
        headers=headers,
        proxies={parts.scheme: proxy} if proxy else None,
        allow_redirects=False,
        stream=True,
    )
    raw: BaseHTTPResponse = response.raw
    try:
        content = _read(raw)
    except BaseException:
        raw.close()
        raise
    raw.release_conn()
    return response.status_code, Reply(content, response.headers, keys)


def _read(response: BaseHTTPResponse) -> bytes:
    """Read the body; of a refusal, which may be endless, only its beginning."""
    if response.status != 200:  # noqa: PLR2004
        content = response.read(_REFUSAL, decode_content=False)
        response.close()
        return content
    if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        response.close()
        raise doubtful(RetryableError("the answer is compressed, although that was not asked for"))
    return b"".join(response.stream(1 << 18, decode_content=False))


def _refusal(status: int, reply: Reply) -> ModelError:
    failure = _meaning(status, reply, f"answered {status}: {reply.shown()}")
    failure.log_message = f"answered {status}"
    return failure


def _meaning(status: int, reply: Reply, text: str) -> ModelError:
    if status in _REJECTED or (status >= _ERRORS and _TOO_LONG.search(reply.body)):
        return RejectedError(text)
    moved = 300 <= status < 400  # noqa: PLR2004
    if moved or status in _CONFIGURATION or b"insufficient_quota" in reply.body:
        return doubtful(ConfigurationError(text))  # or a firewall or gateway in between refuses a text
    pause = answers.after_refusal(reply.headers, status, time.time())
    if status == _BUSY:
        return limited(RetryableError(text, pause))
    return doubtful(RetryableError(text, pause))


def _cause(error: Exception) -> Exception:
    """Return urllib3's error, which requests puts into one of its own that says less."""
    inner = error.args[0] if isinstance(error, requests.RequestException) and error.args else None
    return inner if isinstance(inner, Exception) else error


def _broken(error: Exception, call: transport.Call) -> ModelError:
    """Say what went wrong in words of our own: those of the layers below may repeat headers."""
    timeouts = call.timeouts
    if isinstance(error, requests.exceptions.InvalidURL | LocationValueError):
        return RetryableError("the host in the URL cannot be looked up: it is not a valid name")
    if isinstance(error, ConnectTimeoutError | NewConnectionError):
        return RetryableError(f"no connection within {timeouts.connect:g} s")
    if isinstance(error, TimedOut):
        return doubtful(
            RetryableError(f"no answer within {min(timeouts.read, timeouts.total):g} s"), slow=not call.answered
        )
    if isinstance(error, SSLError):
        why = getattr(error.args[0], "verify_message", None) or "the TLS handshake failed"
        return RetryableError(f"no secure connection: {why}")
    if isinstance(error, ProxyError):
        return RetryableError("the proxy did not let the request through")
    return doubtful(RetryableError(f"the connection broke ({type(error).__name__})"))


def _at(error: ModelError, endpoint: Endpoint) -> ModelError:
    placed = copy.copy(error)
    placed.args = (f'endpoint "{endpoint.name}": {error}',)
    return placed
