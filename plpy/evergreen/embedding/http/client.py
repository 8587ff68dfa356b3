"""One request to an endpoint, whose answer is read as a whole or line by line."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ConfigurationError, ModelError, RetryableError, doubtful
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.http import addresses, parameters, transport
from evergreen.embedding.http.bodies import FileBody
from evergreen.embedding.http.reply import REFUSAL, Reply, at, broken, cause, refusal

T = TypeVar("T")
MAX_BODY = 256 * 1024 * 1024
_DONE = 200
_MOVED = (301, 302, 303, 307, 308)
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
    body: bytes | FileBody | None = None,
    *,
    largest: int,
    canceller: RequestCanceller,
    headers: Mapping[str, str],
    longest: float = math.inf,
    rate: float | None = None,
    key_header: str | None = None,
) -> Reply:
    """Send one request and return the answer of a 200; raises the ModelError that the answer means.

    ``largest``: bytes that the body of an answer can have; ``canceller`` ends the request from another thread;
    ``longest``: seconds for the whole answer, if fewer than the endpoint's ``total_timeout``; ``rate``: bytes a second
    for which there is more time; ``key_header``: where the endpoint's secret goes, unless it is where it usually does.
    """
    own = parameters.resolve(endpoint, key_header)
    call = _call(endpoint, url, min(largest, MAX_BODY), canceller, longest)
    call.rate = rate

    def exchange() -> tuple[int, Reply]:
        response = _opened(method, endpoint, url, body, own, headers)
        content = _read(response.raw)
        return response.status_code, Reply(content, response.headers, own.keys)

    status, reply = _step(endpoint, call, exchange)
    if status == _DONE:
        return reply
    raise at(refusal(status, reply), endpoint)


def _call(endpoint: Endpoint, url: str, largest: int, canceller: RequestCanceller, longest: float) -> transport.Call:
    names = {"connect": "connect_timeout", "read": "read_timeout", "total": "total_timeout"}
    given = {name: float(endpoint.options[o]) for name, o in names.items() if o in endpoint.options}
    timeouts = transport.Timeouts(**given)
    timeouts = replace(timeouts, total=min(timeouts.total, longest))
    plain = urlsplit(url).scheme == "http"
    loopback_only = plain and not endpoint.options.get("allow_http")
    return transport.Call(timeouts, time.monotonic() + timeouts.total, largest + _HEADERS, loopback_only, canceller)


def _step(endpoint: Endpoint, call: transport.Call, step: Callable[[], T]) -> T:
    """Take a step of a call; raises the ModelError that a failure means."""
    failure: ModelError
    try:
        with transport.calling(call):
            return step()
    except ModelError as error:
        failure = error
        failure.log_message = str(error)
    except (HTTPError, OSError, ValueError) as error:  # ValueError: what is no HTTP at all
        failure = broken(cause(error), call)
        failure.log_message = str(failure)
    # Outside of the handlers: an error of the layers below would come along as its context, with the request in it.
    raise at(failure, endpoint)


def _opened(
    method: str,
    endpoint: Endpoint,
    url: str,
    body: bytes | FileBody | None,
    own: parameters.Resolved,
    headers: Mapping[str, str],
) -> requests.Response:
    """Send a request and return the response with its body unread."""
    parts = urlsplit(url)
    addresses.check_literal(parts.hostname or "")
    if own.query:
        url = f"{url}{'&' if parts.query else '?'}{own.query}"
    proxy = endpoint.options.get("proxy")
    return _client(parts.scheme).request(
        method,
        url,
        data=body,  # pyright: ignore[reportArgumentType] - requests streams what has read, a length and __iter__
        headers={**headers, **own.headers},  # replaces what is usual, in upper or lower case
        proxies={parts.scheme: proxy} if proxy else None,
        allow_redirects=False,
        stream=True,
    )


def _read(response: BaseHTTPResponse) -> bytes:
    """Read the body; of a refusal, which may be endless, only its beginning."""
    try:
        if response.status != _DONE:
            content = response.read(REFUSAL, decode_content=False)
            response.close()
            return content
        content = b"".join(_stream(response))
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return content


def _stream(response: BaseHTTPResponse) -> Iterator[bytes]:
    if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        raise doubtful(RetryableError("the answer is compressed, although that was not asked for"))
    return response.stream(1 << 18, decode_content=False)


class Download:
    """The lines of an answer, one in memory at a time. Close it unless it was read to its end."""

    def __init__(
        self, endpoint: Endpoint, call: transport.Call, response: requests.Response, keys: tuple[str, ...], longest: int
    ) -> None:
        self.keys = keys
        self.cut = False  # it ended without a line break: the last line may be part of one
        self._endpoint, self._call, self._longest = endpoint, call, longest
        self._raw: BaseHTTPResponse = response.raw
        self._chunks = _stream(self._raw)
        self._paused_at = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        """Read on, line by line without line breaks; raises RetryableError where the answer ends too early."""
        rest = b""
        while chunk := _step(self._endpoint, self._call, self._next):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            yield from lines
            if len(rest) > self._longest:
                raise at(RetryableError("a line of the answer is longer than such a line can be"), self._endpoint)
        if rest:
            self.cut = True
            yield rest

    def _next(self) -> bytes:
        """Return the next piece, or nothing at the end. What the reader did meanwhile takes no time of the call's."""
        self._call.until += time.monotonic() - self._paused_at
        chunk = next(self._chunks, b"")
        self._paused_at = time.monotonic()
        if not chunk:
            self._raw.release_conn()
        return chunk

    def close(self) -> None:
        """End the transfer."""
        self._raw.close()


def download(
    endpoint: Endpoint,
    url: str,
    *,
    largest: int,
    longest_line: int,
    canceller: RequestCanceller,
    headers: Mapping[str, str],
    rate: float,
    key_header: str | None = None,
    stored_elsewhere: bool = False,
) -> Download:
    """Ask for an answer that is read line by line, with the guards of ``send``; see there for the parameters.

    ``stored_elsewhere``: the server may answer with a redirect to where the answer is. The one redirect that is
    followed gets no secret, header or parameter of the endpoint's, and never leads from https to http.
    """
    own = parameters.resolve(endpoint, key_header)
    begun = _begin(endpoint, url, own, (largest, longest_line, rate), canceller, headers)
    if stored_elsewhere and isinstance(begun, tuple) and begun[0] in _MOVED:
        target = _target(endpoint, url, begun[1])
        nothing = parameters.Resolved({}, "", own.keys)
        begun = _begin(endpoint, target, nothing, (largest, longest_line, rate), canceller, {})
    if isinstance(begun, Download):
        return begun
    raise at(refusal(*begun), endpoint)


def _begin(
    endpoint: Endpoint,
    url: str,
    own: parameters.Resolved,
    bounds: tuple[int, int, float],
    canceller: RequestCanceller,
    headers: Mapping[str, str],
) -> Download | tuple[int, Reply]:
    largest, longest_line, rate = bounds
    call = _call(endpoint, url, largest, canceller, math.inf)
    call.rate = rate

    def begin() -> Download | tuple[int, Reply]:
        response = _opened("GET", endpoint, url, None, own, headers)
        if response.status_code == _DONE:
            return Download(endpoint, call, response, own.keys, longest_line)
        return response.status_code, Reply(_read(response.raw), response.headers, own.keys)

    return _step(endpoint, call, begin)


def _target(endpoint: Endpoint, url: str, reply: Reply) -> str:
    """Return where a redirect leads; raises ConfigurationError where it may not be followed."""
    target = urljoin(url, reply.headers.get("location", ""))
    parts = urlsplit(target)
    if not parts.hostname or parts.username or parts.scheme not in {"https", urlsplit(url).scheme}:
        raise at(ConfigurationError("answered with a redirect that is not followed"), endpoint)
    return target
