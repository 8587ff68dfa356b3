"""One request to an endpoint."""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ModelError, RetryableError, doubtful
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.http import addresses, parameters, transport
from evergreen.embedding.http.reply import REFUSAL, Reply, at, broken, cause, refusal

MAX_BODY = 256 * 1024 * 1024
_HEADERS = 128 * 1024  # bytes of headers that a server may send
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
        failure = refusal(status, reply)
    except ModelError as error:
        failure = error
        failure.log_message = str(error)
    except (HTTPError, OSError, ValueError) as error:  # ValueError: what is no HTTP at all
        failure = broken(cause(error), call)
        failure.log_message = str(failure)
    # Outside of the handlers: an error of the layers below would come along as its context, with the request in it.
    raise at(failure, endpoint)


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
        content = response.read(REFUSAL, decode_content=False)
        response.close()
        return content
    if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        response.close()
        raise doubtful(RetryableError("the answer is compressed, although that was not asked for"))
    return b"".join(response.stream(1 << 18, decode_content=False))
