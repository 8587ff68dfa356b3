"""What a server answered, and which error it means."""

import copy
import re
import time
from collections.abc import Mapping
from dataclasses import field

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as TimedOut

from evergreen.core.errors import ConfigurationError, ModelError, RejectedError, RetryableError, doubtful, limited
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.http import answers, credentials, transport

REFUSAL = 16 * 1024  # how much of an error's body is read
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


@frozen
class Reply:
    """A body and the headers it came with."""

    body: bytes
    headers: Mapping[str, str]
    keys: tuple[str, ...] = field(default=(), repr=False)

    def shown(self) -> str:
        """Return the beginning of the body as it may stand in a message."""
        return repr(credentials.masked(self.body[:REFUSAL].decode("utf-8", "replace"), *self.keys)[:_SHOWN])

    def masked(self, text: str) -> str:
        """Return a text of the server without the keys that were sent to it."""
        return credentials.masked(text, *self.keys)


def refusal(status: int, reply: Reply) -> ModelError:
    """Return the error that a status means."""
    failure = _meaning(status, reply, f"answered {status}: {reply.shown()}")
    failure.log_message, failure.status = f"answered {status}", status
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


def cause(error: Exception) -> Exception:
    """Return urllib3's error, which requests puts into one of its own that says less."""
    inner = error.args[0] if isinstance(error, requests.RequestException) and error.args else None
    return inner if isinstance(inner, Exception) else error


def broken(error: Exception, call: transport.Call) -> ModelError:
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


def at(error: ModelError, endpoint: Endpoint) -> ModelError:
    """Return an error that names the endpoint."""
    placed = copy.copy(error)
    placed.args = (f'endpoint "{endpoint.name}": {error}',)
    return placed
