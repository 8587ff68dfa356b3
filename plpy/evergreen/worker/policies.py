"""Error policies of a step: retry delays and messages; and the guard against reentrancy."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from evergreen import db
from evergreen.core.errors import RetryableError, UserError
from evergreen.core.retry import backoff
from evergreen.core.step import Step
from evergreen.db.errors import is_disk_full, is_lock_conflict, is_shutdown_or_cancel

T = TypeVar("T")
_LOCK_RETRY_S = 0.2  # seconds, when a lock was not available
_MAX_LOCK_RETRY_S = 5.0  # each try costs a lock_timeout, which delays the other pipelines
_ERROR_RETRY_S = 5.0
_MAX_ERROR_RETRY_S = 60.0
_running: list[str] = []


def retry_delay(error: db.DatabaseError, failures: int) -> float:
    """Return the seconds to wait: short after a lock conflict, longer after other errors.

    ``failures``: how often in a row the disk was full or a lock was not available. On a full disk each try can lose
    answers that were paid for, because there is no room to keep them.
    """
    if is_lock_conflict(error):
        return backoff(failures, _LOCK_RETRY_S, _MAX_LOCK_RETRY_S)
    return backoff(failures, _ERROR_RETRY_S, _MAX_ERROR_RETRY_S) if is_disk_full(error) else _ERROR_RETRY_S


def describe(error: db.DatabaseError) -> str | None:
    """Return the error that embed_status shows for waiting rows; None for a short lock conflict."""
    if is_lock_conflict(error):
        return None
    message = db.message(error)
    if is_disk_full(error):
        return f"the disk is full; work resumes by itself when there is space: {message}"
    return message


def model_step(step: Step) -> Step:
    """Make a step raise RetryableError for failed statements, except for a cancel or shutdown."""

    def guarded(name: str, body: Callable[[], T], /) -> T:
        try:
            return step(name, body)
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            raise RetryableError(db.message(error)) from error

    return guarded


@contextmanager
def not_reentrant(name: str) -> Generator[None]:
    """Refuse another drain or worker inside this block; raises UserError 55000."""
    if _running:
        raise UserError(
            f"{name} cannot run inside {_running[-1]}",
            "55000",
            hint=f"It was called by code that {_running[-1]} runs, such as a model's function.",
        )
    _running.append(name)
    try:
        yield
    finally:
        _running.pop()
