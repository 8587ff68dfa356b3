"""The errors that evergreen raises: what a user did wrong, and what a model answered."""

from dataclasses import dataclass
from typing import TypeVar


class ModelError(Exception):
    """A model did not give the vectors; subclasses say what that means for the rows.

    ``log_message``: the part of the message without anything the server sent, for logs. ``doubtful``: a text of the
    request, its size or the endpoint may be at fault; ``slow``: the request timed out. ``limited``: the server asks for
    fewer requests, though some servers say so of a single text. ``max_batch``: how many texts the next request with one
    of these may hold, because the cause is not known yet. ``scope``: how long the message holds, as in
    embed.job.error_scope. ``status``: of an HTTP answer.
    """

    failure_class = "retryable"
    log_message: str | None = None
    scope = "service"
    doubtful = False
    slow = False
    limited = False
    max_batch: int | None = None
    status: int | None = None


E = TypeVar("E", bound=ModelError)


@dataclass
class UserError(Exception):
    """A call that cannot be done as asked: shown to the user with its SQLSTATE and HINT."""

    message: str
    sqlstate: str = "22023"  # invalid_parameter_value
    hint: str | None = None
    detail: str | None = None

    def __str__(self) -> str:
        return self.message


def doubtful(error: E, *, slow: bool = False) -> E:
    """Mark an error as one of a whole request that may be the fault of its contents or its size."""
    error.doubtful, error.slow = True, slow
    return error


def limited(error: E) -> E:
    """Mark an error as a server's request for fewer requests."""
    error.limited = True
    return error


class RetryableError(ModelError):
    """The endpoint is down, slow or busy: the rows are not to blame and wait, without losing an attempt.

    ``pause``: seconds for which the server wants to be left alone, where it said so.
    """

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class CircuitOpenError(RetryableError):
    """No request was sent: the breaker is open or the budget is spent."""

    def __init__(self, message: str, pause: float | None = None, scope: str = "rest") -> None:
        super().__init__(message, pause)
        self.scope = scope


class RejectedError(ModelError):
    """The model refused this batch: one of its texts is to blame, so it is halved until that one is alone."""

    failure_class = "permanent"
    scope = "row"


class SuspectError(RejectedError):
    """As RejectedError, but it may pass: the text that is left alone with it loses an attempt and waits."""

    failure_class = "retryable"


class InvalidVectorError(SuspectError):
    """A text with an invalid vector, perhaps because of other texts of its request: from now on it is sent alone."""


class PoisonError(SuspectError):
    """A text that makes each request fail that it is in, while others pass: from now on it is sent alone."""


class ConfigurationError(ModelError):
    """No text of this model can succeed until the configuration is fixed: the rows wait, without losing an attempt."""

    failure_class = "configuration"


class SourceError(ConfigurationError):
    """The source cannot be read: the model has nothing to do with it."""

    scope = "row"
