"""The application: its routes, and what every request has to pass before it reaches one."""

import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from evergreen_host.dashboard import security
from evergreen_host.dashboard.link import Link
from evergreen_host.dashboard.pages import Pages
from evergreen_host.dashboard.poller import Poller
from evergreen_host.dashboard.security import Guard

_LONGEST_BODY = 64 * 1024
_OPEN = ("/login", "/static/")
Next = Callable[[Request], Awaitable[Response]]


class Kept:
    """Pages that browsers share for a moment, so that ten of them cost no more than one."""

    _MOST = 500

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[tuple[object, ...], tuple[float, str]] = {}

    def get(self, name: tuple[object, ...], seconds: float, make: Callable[[], str]) -> str:
        """Return a kept page, or make it; requests for it meanwhile wait."""
        with self._lock:
            now = time.monotonic()
            until, found = self._pages.get(name, (0.0, ""))
            if now < until:
                return found
            made = make()
            if len(self._pages) >= self._MOST:
                self._pages.clear()
            self._pages[name] = (time.monotonic() + seconds, made)
            return made


@dataclass
class Site:
    """What the handlers share."""

    guard: Guard
    poller: Poller
    pages: Pages
    asking: Link
    acting: Link
    read_only: bool
    kept: Kept = field(default_factory=Kept)

    def close(self) -> None:
        """End the sessions."""
        self.poller.stop()
        self.asking.close()
        self.acting.close()


def refuse(status: int, message: str) -> Response:
    """Return a refusal in plain text."""
    return PlainTextResponse(f"{message}\n", status)


def page(content: str, status: int = 200) -> Response:
    """Return a page."""
    return HTMLResponse(content, status)


async def form_of(request: Request) -> Mapping[str, str] | None:
    """Return the fields of a form; None if it is too long or something else."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_BODY:
            return None
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body)))
    except ValueError:
        return None


class Checks(BaseHTTPMiddleware):
    """Refuses what does not come from one of our pages in a browser that may see them."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        super().__init__(app)
        self._guard = site.guard
        self._read_only = site.read_only

    async def dispatch(self, request: Request, call_next: Next) -> Response:
        """Check a request, and add the headers that protect the answer."""
        response = self._refusal(request) or await call_next(request)
        response.headers.update(security.HEADERS)
        if not request.url.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        return response

    def _refusal(self, request: Request) -> Response | None:
        path, host = request.url.path, request.headers.get("host", "")
        if not self._guard.is_known_host(host):
            return refuse(421, "unknown host name; to allow it: evergreen dashboard --host NAME")
        if request.method == "POST":
            if not self._guard.is_own_origin(request.headers.get("origin"), host):
                return refuse(403, "the request does not come from this page")
            if self._read_only and path != "/login":
                return refuse(403, "the page is read-only")
        elif path not in {"/", "/pipeline"} and security.comes_from_elsewhere(request.headers):
            return refuse(403, "the request comes from another site")
        is_open = any(path == one or (one.endswith("/") and path.startswith(one)) for one in _OPEN)
        if is_open or self._guard.is_session(request.cookies.get(security.COOKIE)):
            return None
        return RedirectResponse("/login", 303) if request.method == "GET" else refuse(401, "log in first")


def build(site: Site, routes: Sequence[BaseRoute]) -> Starlette:
    """Return the application."""
    middleware = [Middleware(Checks, site=site), Middleware(GZipMiddleware, minimum_size=1000)]
    app = Starlette(routes=routes, middleware=middleware)
    app.state.site = site
    return app
