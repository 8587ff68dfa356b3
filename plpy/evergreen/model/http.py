"""One POST to an endpoint: https unless local, no redirects, no proxies, checked addresses, bounded time and size."""

import ipaddress
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from evergreen.errors import ConfigurationError, RejectedError, RetryableError, UserError

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
MAX_BODY = 256 * 1024 * 1024
_REJECTED = (400, 413, 422)
_CONFIGURATION = (401, 403, 404, 405)


@dataclass(frozen=True)
class Timeouts:
    """Seconds: to connect, between two reads, for the whole answer."""

    connect: float = 5.0
    read: float = 30.0
    total: float = 60.0


def check_url(url: str, *, allow_http: bool) -> None:
    """Raise UserError unless the URL is one that texts may be sent to."""
    parts = _split(url)
    if parts.scheme == "http" and not allow_http and not _is_loopback(parts.hostname or ""):
        raise UserError(
            f'"{_where(url)}" would send texts unencrypted',
            hint="Use https, or options => '{\"allow_http\": true}' inside a network that you trust.",
        )


def _split(url: str) -> SplitResult:
    """Take a URL apart; one that is refused may hold a key, so it is not repeated."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named, parts = False, urlsplit("")
    extra = parts.username or parts.password or parts.query or parts.fragment
    if not named or extra or parts.scheme not in {"http", "https"} or _BLANK.search(url):
        raise UserError(
            "url is not the URL of an endpoint: scheme, host and path, and nothing else",
            hint="For example 'https://models.example.com/v1'; a key is passed as the name of a secret.",
        )
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refused(address: str) -> bool:
    """True for addresses where clouds keep their metadata and no model is: link-local, multicast, unspecified."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped if mapped is not None else ip
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) in {"fd00:ec2::254", "100.100.100.200"}


def _check_peer(connection: Any) -> None:
    peer = connection.sock.getpeername()[0]
    if refused(peer):
        connection.close()
        raise NewConnectionError(connection, f"refused to talk to {peer}: a link-local or metadata address")


class _CheckedHTTP(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self)  # the address that was connected to, so a second DNS answer cannot differ


class _CheckedHTTPS(HTTPSConnection):
    def _new_conn(self) -> Any:
        sock = super()._new_conn()
        if refused(sock.getpeername()[0]):
            sock.close()
            raise NewConnectionError(self, "refused to talk to a link-local or metadata address")
        return sock


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _CheckedHTTP  # pyright: ignore[reportAssignmentType] - urllib3 types it by a protocol


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedHTTPS  # pyright: ignore[reportAssignmentType]


class _Adapter(HTTPAdapter):
    """Looks at the address that a name resolved to before anything is sent."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        classes: dict[str, type[HTTPConnectionPool] | type[HTTPSConnectionPool]] = {
            "http": _HTTPPool,
            "https": _HTTPSPool,
        }
        self.poolmanager.pool_classes_by_scheme = classes  # pyright: ignore[reportAttributeAccessIssue] - invariant dict


def session() -> requests.Session:
    """Return a session that takes no proxy, netrc or certificate setting from the environment."""
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", _Adapter())
    made.mount("https://", _Adapter())
    return made


def post(client: requests.Session, url: str, headers: dict[str, str], body: bytes, timeouts: Timeouts) -> bytes:
    """Send one request and return the body of a 200; raises the ModelError that the answer means."""
    deadline = time.monotonic() + timeouts.total
    try:
        with client.post(
            url,
            data=body,
            headers=headers,
            timeout=(timeouts.connect, min(timeouts.read, timeouts.total)),
            allow_redirects=False,
            stream=True,
        ) as response:
            content = _read(response, deadline)
            if response.status_code == requests.codes.ok:
                return content
            raise _refusal(response, content)
    except requests.RequestException as error:
        raise RetryableError(f"{_where(url)}: {type(error).__name__}") from None  # its text may carry headers


def _read(response: requests.Response, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65536):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise RetryableError(f"{_where(response.url)}: the answer is larger than {MAX_BODY} bytes")
        if time.monotonic() > deadline:
            raise RetryableError(f"{_where(response.url)}: the answer took too long")
    return b"".join(parts)


def _refusal(response: requests.Response, content: bytes) -> Exception:
    text = f"{_where(response.url)} answered {response.status_code}: {content[:200].decode('utf-8', 'replace')!r}"
    if response.status_code in _REJECTED:
        return RejectedError(text)
    if response.status_code in _CONFIGURATION or b"insufficient_quota" in content or response.is_redirect:
        return ConfigurationError(text)
    return RetryableError(text)


def _where(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
