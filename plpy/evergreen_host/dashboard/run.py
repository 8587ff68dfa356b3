"""Starts the page: checks where it may listen, connects, and serves until it is interrupted."""

import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from evergreen_host.dashboard import security
from evergreen_host.dashboard.handlers import routes
from evergreen_host.dashboard.link import Link
from evergreen_host.dashboard.pages import Pages
from evergreen_host.dashboard.poller import Poller
from evergreen_host.dashboard.security import Guard
from evergreen_host.dashboard.web import Site, build
from evergreen_host.database import open_database
from evergreen_host.errors import EvergreenError

_LOCK_TIMEOUT, _READ_TIMEOUT, _CALL_TIMEOUT = "2s", "30s", "10min"
_PORT = 9188


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    dsn: str
    listen: str
    read_only: bool
    token_file: Path | None
    hosts: tuple[str, ...]


def address_of(listen: str) -> tuple[str, int]:
    """Split HOST:PORT, HOST, or [HOST]:PORT; raises EvergreenError."""
    try:
        parts = urlsplit(f"//{listen}")
        port = parts.port
    except ValueError as error:
        raise EvergreenError(f'--listen "{listen}" is not HOST:PORT', "for example: --listen 127.0.0.1:9188") from error
    return parts.hostname or "127.0.0.1", port if port is not None else _PORT


def site_of(settings: Settings) -> Site:
    """Return the site, not started yet; raises EvergreenError."""
    host, _ = address_of(settings.listen)
    token = security.read_token(settings.token_file) if settings.token_file is not None else None
    if token is None and not security.is_loopback(host):
        raise EvergreenError(
            f"other machines can reach {host}, so the page needs a token",
            "add --token-file FILE, or listen on 127.0.0.1",
        )
    reading = {"default_transaction_read_only": "on", "statement_timeout": _READ_TIMEOUT, "lock_timeout": _LOCK_TIMEOUT}
    only = {"default_transaction_read_only": "on"} if settings.read_only else {}
    poller = Poller(Link(settings.dsn, "evergreen dashboard", **reading))
    return Site(
        guard=Guard(token, settings.hosts),
        poller=poller,
        pages=Pages(poller.history, read_only=settings.read_only, every=poller.every),
        asking=Link(
            settings.dsn, "evergreen dashboard asks", **{**reading, "default_transaction_read_only": "off", **only}
        ),
        acting=Link(settings.dsn, "evergreen dashboard acts", statement_timeout=_CALL_TIMEOUT, **only),
        read_only=settings.read_only,
    )


def server_of(site: Site) -> uvicorn.Server:
    """Return the HTTP server of a site."""
    config = uvicorn.Config(
        build(site, routes()), log_level="warning", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def run(settings: Settings) -> None:
    """Serve the page until SIGINT or SIGTERM; raises EvergreenError if it cannot begin."""
    site = site_of(settings)
    host, port = address_of(settings.listen)
    with open_database(settings.dsn, "evergreen dashboard", only_reads=True):
        pass  # a wrong --dsn is an error at once
    listening = listen(host, port)
    site.poller.start()
    shown = f"[{host}]" if ":" in host else host
    print(f"evergreen: dashboard at http://{shown}:{listening.getsockname()[1]}/", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)  # uvicorn stops, then raises the signal again
    try:
        server_of(site).run(sockets=[listening])
    finally:
        site.close()


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the command ends with exit code 0."""


def listen(host: str, port: int) -> socket.socket:
    """Return the socket; raises EvergreenError if the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise EvergreenError(
            f"cannot listen on {host}:{port}: {error.strerror}", "choose another port: --listen 127.0.0.1:9189"
        ) from error
    return listening
