"""Who may ask for a page, and from where: hosts, tokens, origins, and the headers that keep a page to itself.

A page on another site must not read figures (DNS rebinding: the Host header), start a call (CSRF: a token in each form,
the Origin header, and a cookie that other sites do not send), or run script in this one (Content-Security-Policy).
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from evergreen_host.errors import EvergreenError

COOKIE = "evergreen_dashboard"
_LEAST_TOKEN = 16  # characters
_OTHERS_MAY_READ = 0o077
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, the Origin header of a form would be null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def read_token(path: Path) -> str:
    """Return the token in a file; raises EvergreenError if it is too short, or others may read it."""
    try:
        if path.stat().st_mode & _OTHERS_MAY_READ:
            raise EvergreenError(f"the token file {path} can be read by others", f"chmod 600 {path}")
        token = path.read_text("utf-8").strip()
    except OSError as error:
        raise EvergreenError(f"the token file {path} cannot be read: {error.strerror}", _make(path)) from error
    if len(token) < _LEAST_TOKEN:
        raise EvergreenError(f"the token in {path} is shorter than {_LEAST_TOKEN} characters", _make(path))
    return token


def _make(path: Path) -> str:
    return f"(umask 077; openssl rand -hex 32 > {path})"


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def host_name(header: str) -> str:
    """Return the name in a Host header, without the port."""
    return (urlsplit(f"//{header}").hostname or "").rstrip(".").lower()


class Guard:
    """What is compared with each request; secrets are compared in constant time."""

    def __init__(self, token: str | None, hosts: Iterable[str]) -> None:
        self._token = token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._key = secrets.token_bytes(32)  # sessions and forms end with the process

    @property
    def needs_token(self) -> bool:
        """Whether a browser has to log in."""
        return self._token is not None

    def is_known_host(self, header: str) -> bool:
        """Return whether a Host header is an address or one of our names: a rebound name of others is neither."""
        try:
            name = host_name(header)
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def is_token(self, given: str) -> bool:
        """Return whether it is the token."""
        return self._token is not None and _equal(given, self._token)

    def session(self) -> str:
        """Return the cookie of a browser that knows the token."""
        return self._sign(f"session {self._token}")

    def is_session(self, cookie: str | None) -> bool:
        """Return whether a browser may see the pages."""
        return self._token is None or (cookie is not None and _equal(cookie, self.session()))

    def form_token(self) -> str:
        """Return what each form carries; a page of another site cannot read it."""
        return self._sign("form")

    def is_form_token(self, given: str) -> bool:
        """Return whether a form is of one of our pages."""
        return _equal(given, self.form_token())

    def is_own_origin(self, origin: str | None, host: str) -> bool:
        """Return whether a request that changes something comes from one of our pages."""
        if origin is None:
            return False
        parts = urlsplit(origin)
        return parts.scheme in {"http", "https"} and (
            parts.netloc.lower() == host.lower() or (parts.hostname or "") in self._hosts - {"localhost"}
        )

    def _sign(self, what: str) -> str:
        return hmac.new(self._key, what.encode(), hashlib.sha256).hexdigest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def comes_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Return whether another site's page asks: browsers say so, also for images and for links that are followed."""
    return headers.get("sec-fetch-site", "none") in {"cross-site", "same-site"}
