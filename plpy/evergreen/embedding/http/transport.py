"""Connections to endpoints: checked addresses, a deadline and a size checked at every read, cancelable."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import BaseHTTPResponse, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import RetryableError, doubtful
from evergreen.core.frozen import frozen
from evergreen.embedding.http import addresses

_MAX_CONNECTIONS = 64  # the largest max_in_flight: a connection that goes back to a full pool would be thrown away
_ENDPOINTS = 16
_thread = threading.local()


@frozen
class Timeouts:
    """Seconds: to look up and connect, between two reads, for the whole answer."""

    connect: float = 5.0
    read: float = 30.0
    total: float = 60.0


@dataclass
class Call:
    """What bounds the request that a thread is making.

    ``rate``: bytes a second that a long transfer must keep up, on average and beyond the total time.
    """

    timeouts: Timeouts
    until: float  # monotonic
    bytes_left: int
    loopback_only: bool
    canceller: RequestCanceller
    rate: float | None = None
    answered: bool = False  # some of the answer has come: the server does not compute any more
    wire: socket.socket | None = None

    def remaining(self, most: float) -> float:
        """Return how long the next step may take; raises RetryableError when the time is over."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise self.late()
        return min(most, left)

    def late(self) -> RetryableError:
        """Return the error of a call whose time is over."""
        why = f"no whole answer within {self.timeouts.total:g} s"
        return doubtful(RetryableError(why), slow=not self.answered)

    def received(self, count: int) -> None:
        """Count what came in; raises RetryableError when it is more than any answer could be."""
        self.bytes_left -= count
        self.answered = True
        self.moved(count)
        if self.bytes_left < 0:
            raise doubtful(RetryableError("the answer is larger than such an answer can be"))

    def moved(self, count: int) -> None:
        """Allow more time for a transfer that goes on."""
        if self.rate is not None:
            self.until += count / self.rate

    def attach(self, held: socket.socket) -> None:
        """Make the wait on a socket cancelable."""
        self.wire = held
        self.canceller.attach(held)


def _call() -> Call:
    return _thread.call


@contextlib.contextmanager
def calling(call: Call) -> Generator[None]:
    """Make a call that of this thread; afterwards a cancel leaves the connection alone, which others may use.

    A call whose answer is read in several steps is that of the thread in each.
    """
    _thread.call = call
    try:
        if call.wire is not None:
            call.attach(call.wire)
        yield
    finally:
        call.canceller.attach(None)
        del _thread.call


class _Socket(socket.socket):
    """A socket whose every step obeys the call of its thread: a server that sends byte by byte gains nothing."""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive within the call's time and size."""
        call = _call()
        self.settimeout(call.remaining(call.timeouts.read))
        count = super().recv_into(buffer, nbytes or len(buffer), flags)
        call.received(count)
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        """Send within the call's time."""
        self.settimeout(_call().remaining(_call().timeouts.read))
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all within the call's time: a plain socket's time-out is for the whole of it."""
        self.settimeout(_call().remaining(_call().timeouts.total))
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise _call().late() from None
        _call().moved(len(data))


class _TLSSocket(_Socket, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        """Shake hands within the time to connect, cancelable."""
        _call().attach(self)
        self.settimeout(_call().remaining(_call().timeouts.connect))
        super().do_handshake(block)


def _connected(host: str, port: int) -> _Socket:
    """Connect to the first address of a host that answers, among those that are allowed."""
    call = _call()
    until = time.monotonic() + call.remaining(call.timeouts.connect)
    found = addresses.resolve(host, port, max(0.0, until - time.monotonic()), loopback_only=call.loopback_only)
    for tried, (family, address) in enumerate(found):
        share = (until - time.monotonic()) / (len(found) - tried)
        with contextlib.suppress(OSError):
            return _reached(family, address, max(share, 0.001))
    raise RetryableError(f"{host}:{port} cannot be reached")


def _reached(family: socket.AddressFamily, address: Any, timeout: float) -> _Socket:
    made = _Socket(family, socket.SOCK_STREAM)
    try:
        _call().attach(made)
        made.settimeout(timeout)
        made.connect(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        made.close()
        raise
    return made


class _HTTP(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self.host, self.port)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Make a kept connection cancelable by this call."""
        if self.sock is not None:
            _call().attach(self.sock)
        super().request(*args, **kwargs)


class _HTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self.host, self.port)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Make a kept connection cancelable by this call."""
        if self.sock is not None:
            _call().attach(self.sock)
        super().request(*args, **kwargs)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP  # pyright: ignore[reportAssignmentType] - urllib3 types it by a protocol


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS  # pyright: ignore[reportAssignmentType]


def _tls() -> ssl.SSLContext:
    """Trust what this machine trusts, and what certifi does: a slim container has no certificates of its own."""
    context = create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)  # certifi's
    context.sslsocket_class = _TLSSocket
    return context


class Transport(HTTPAdapter):
    """Sends the requests of a session over these connections, each once, and keeps the connections for later ones."""

    def __init__(self, *, secure: bool) -> None:
        """``secure``: for https, whose certificates take 50 ms to load."""
        self._context = _tls() if secure else None
        self._lock = threading.Lock()
        super().__init__(_ENDPOINTS, _MAX_CONNECTIONS, max_retries=Retry(total=False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """Make the pool of direct connections."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **pool_kwargs)
        _use_ours(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> PoolManager:
        """Return the pool of connections through a proxy; threads share it."""
        with self._lock:
            made = super().proxy_manager_for(proxy, ssl_context=self._context, **proxy_kwargs)
            _use_ours(made)
        return made

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return host and port; what is trusted is the context's to say, not the request's."""
        return super().build_connection_pool_key_attributes(request, verify, cert)[0], {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Change nothing: requests would read the certificates once more for every connection."""

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """Return the response; its cookies are not even parsed."""
        made = Response()
        made.status_code, made.reason, made.raw = resp.status, resp.reason or "", resp
        made.headers = CaseInsensitiveDict(resp.headers)
        made.url, made.request, made.connection = req.url or "", req, self
        return made


def _use_ours(manager: PoolManager) -> None:
    classes: dict[str, type[HTTPConnectionPool] | type[HTTPSConnectionPool]]
    classes = {"http": _HTTPPool, "https": _HTTPSPool}
    manager.pool_classes_by_scheme = classes  # pyright: ignore[reportAttributeAccessIssue] - urllib3 leaves it unannotated
