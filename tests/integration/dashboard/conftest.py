"""The operator's page, served by this process, and Debian's Chromium that looks at it."""

import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from evergreen_host.dashboard import poller
from evergreen_host.dashboard.run import Settings, listen, server_of, site_of
from evergreen_host.dashboard.web import Site
from tests.fixtures.waiting import wait_until

expect.set_options(timeout=20_000)
CHROMIUM = shutil.which("chromium")


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    text: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **options: Any) -> None:
        """Follow no redirection."""


@dataclass
class Served:
    """A page that is being served."""

    url: str
    site: Site
    server: uvicorn.Server

    @property
    def host(self) -> str:
        """Host and port."""
        return urllib.parse.urlsplit(self.url).netloc

    def ask(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """Send a request; headers are given with underscores. A form has an Origin unless another is given."""
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        data = None
        if form is not None:
            data = urllib.parse.urlencode(form).encode()
            sent = {"Origin": self.url, **sent} if "Origin" not in headers else sent
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=sent)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=60) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read().decode())

    def act(self, action: str, name: str = "docs", **fields: str) -> Answer:
        """Press a button."""
        form = {"token": self.site.guard.form_token(), "name": name, **fields}
        return self.ask(f"/act/{action}", form)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than every two seconds."""
    monkeypatch.setattr(poller, "_EVERY_S", 0.2)
    monkeypatch.setattr(poller, "_SHARE", 1)


@contextmanager
def serving(
    dsn: str, *, read_only: bool = False, token_file: Path | None = None, hosts: tuple[str, ...] = ()
) -> Iterator[Served]:
    """Serve the page of a database, in a thread, until the block is left."""
    site = site_of(Settings(dsn, "127.0.0.1:0", read_only, token_file, hosts))
    socket = listen("127.0.0.1", 0)
    server = server_of(site)
    site.poller.start()
    thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started and site.poller.state().number, what="the page")
        yield Served(f"http://127.0.0.1:{socket.getsockname()[1]}", site, server)
    finally:
        server.should_exit = True
        thread.join(20)
        site.close()


@pytest.fixture
def serve(dsn: str) -> Iterator[Callable[..., Served]]:
    """Serve pages of the test's database, as a role if one is named; all end with the test."""
    with ExitStack() as stack:

        def one(user: str | None = None, **options: Any) -> Served:
            role = f" options='-c role={user}'" if user is not None else ""
            return stack.enter_context(serving(f"{dsn}{role}", **options))

        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the module's tests."""
    if CHROMIUM is None:
        raise FileNotFoundError("chromium is not installed: make test-packages")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab; an error of its script, or something that the page's policy blocks, fails the test."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(20_000)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda told: wrong.append(told.text) if "Security Policy" in told.text else None)
    made.on("dialog", lambda dialog: dialog.accept())
    yield made
    context.close()
    assert wrong == []
