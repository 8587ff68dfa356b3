"""The requests of a batch API: JSON, files to upload, and outputs to read line by line."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlencode

import orjson

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ModelError, RetryableError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.batches.protocol import NotFoundError
from evergreen.embedding.http import answers, client
from evergreen.embedding.http.bodies import FileBody, form
from evergreen.embedding.http.reply import Reply

_LARGEST = 32 * 1024 * 1024  # of a page of a list, which holds up to 10,000 files
_RATE = 128 * 1024.0  # bytes a second: what a transfer must keep up on average
_ERRORS, _SHOWN = 4, 200  # errors of a batch in a message, and characters of each
_MOST_PAGES = 10_000
_GONE = (404, 410)
#: The thing is gone, over, or not to be changed by anyone: what was asked for is so already, or never will be.
_SETTLED = (*_GONE, 400, 403, 405, 409, 422)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,299}\Z", re.ASCII)
T = TypeVar("T")
Json = dict[str, Any]


@frozen
class Answered:
    """A JSON object, and what came with it."""

    json: Json
    reply: Reply

    @property
    def retry_after(self) -> float | None:
        """Seconds for which the server wants to be left alone, where it says so."""
        return answers.after_refusal(self.reply.headers, 200, time.time())


@frozen
class Calls:
    """Calls below a root, as far as a URL is not whole, with the endpoint's secrets."""

    endpoint: Endpoint
    root: str
    canceller: RequestCanceller
    headers: dict[str, str] = field(default_factory=dict[str, str])
    key_header: str | None = None

    def get(self, path: str, **query: Any) -> Answered:
        """Get a JSON object; None in ``query`` is left out."""
        return self._asked("GET", path, query=query)

    def post(self, path: str, body: Json | None = None) -> Answered:
        """Post a JSON object."""
        return self._asked("POST", path, orjson.dumps(body or {}))

    def upload(self, path: str, file: BinaryIO, name: str, fields: dict[str, str]) -> Answered:
        """Post a file in a form."""
        body, content_type = form(file, name, fields)
        return self._asked("POST", path, body, {"Content-Type": content_type})

    def send(self, method: str, path: str, body: FileBody | bytes | None, headers: dict[str, str]) -> Reply:
        """Send a body as it is and return the answer as it is; raises NotFoundError."""
        return self._found(
            lambda: client.send(
                method,
                self.endpoint,
                self._url(path),
                body,
                largest=_LARGEST,
                canceller=self.canceller,
                headers={**self.headers, **headers},
                rate=_RATE,
                key_header=self.key_header,
            )
        )

    def settle(self, method: str, path: str, body: Json | None = None) -> None:
        """Ask for the end of something; no error where it has ended or cannot be ended."""
        try:
            self.send(method, path, orjson.dumps(body) if body else None, {})
        except ModelError as error:
            if error.status not in _SETTLED:
                raise

    def lines(self, path: str, largest: int, longest: int, *, stored_elsewhere: bool = False) -> client.Download:
        """Open a file of lines, of so many bytes at most in all and in one; raises NotFoundError."""
        return self._found(
            lambda: client.download(
                self.endpoint,
                self._url(path),
                largest=largest,
                longest_line=longest,
                canceller=self.canceller,
                headers=self.headers,
                rate=_RATE,
                key_header=self.key_header,
                stored_elsewhere=stored_elsewhere,
            )
        )

    def pages(self, ask: Callable[[Any], tuple[list[Json], Any]]) -> Iterator[Json]:
        """List all items: ``ask`` turns a cursor, first None, into a page and the next cursor, None at the end."""
        cursor: Any = None
        for _ in range(_MOST_PAGES):
            items, following = ask(cursor)
            yield from items
            if following is None:
                return
            if following == cursor:
                break
            cursor = following
        # An end that is none must not pass for "it is not there": the same would be created once more.
        raise RetryableError("the server's list of batches or files has no end")

    def _asked(
        self,
        method: str,
        path: str,
        body: FileBody | bytes | None = None,
        headers: dict[str, str] | None = None,
        query: Json | None = None,
    ) -> Answered:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        reply = self.send(method, f"{path}?{urlencode(given)}" if given else path, body, headers or {})
        try:
            json = answers.parsed(reply.body)
        except ValueError:
            json = None
        if not isinstance(json, dict):
            raise RetryableError(f"the answer is no JSON object: {reply.shown()}")
        return Answered(cast("Json", json), reply)

    def _url(self, path: str) -> str:
        return path if "://" in path else f"{self.root}/{path}"

    def _found(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except ModelError as error:
            if error.status not in _GONE:
                raise
            missing = NotFoundError(str(error))
            missing.status, missing.log_message = error.status, error.log_message
        raise missing


def objects(value: Any) -> list[Json]:
    """Return the JSON objects of a list; nothing where it is none."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("Json", item) for item in items if isinstance(item, dict)]


def identifier(value: Any, what: str) -> str:
    """Return an id of an answer; raises RetryableError where it is none that could be part of a URL."""
    if not isinstance(value, str) or not _ID.match(value):
        raise RetryableError(f"the answer holds no {what}")
    return value


def number(value: Any) -> int | None:
    """Return a count, which some servers write as a text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else answers.count(value)


def shown(reply: Reply, errors: Any) -> str | None:
    """Return the first errors of a batch in a line, with the numbers of their lines, without secrets."""
    found = objects(errors)
    told = [_error(error) for error in found[:_ERRORS]]
    more = [f"and {len(found) - _ERRORS} more"] if len(found) > _ERRORS else []
    return reply.masked("; ".join([*told, *more])) or None


def _error(error: Json) -> str:
    line, message = (
        number(error.get("line")),
        str(error.get("message") or error.get("code") or "no reason given")[:_SHOWN],
    )
    return f"line {line}: {message}" if line is not None else message
