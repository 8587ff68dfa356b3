"""What an error means for a step, and what may not be run inside of another."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from evergreen import db
from evergreen.core.errors import RetryableError, UserError
from evergreen.core.retry import backoff
from evergreen.db.errors import is_disk_full, is_lock_conflict, is_shutdown_or_cancel
from evergreen.embedding.admission_client import Step

_LOCK_RETRY_S = 0.2  # seconds: a lock was not to be had
_MAX_LOCK_RETRY_S = 5.0  # each try costs a lock_timeout, which the other pipelines' rows wait for
_ERROR_RETRY_S = 5.0
_MAX_ERROR_RETRY_S = 60.0
_running: list[str] = []


def retry_delay(error: db.DatabaseError, failures: int) -> float:
    """Seconds to wait: a moment where a lock was not to be had, longer where something is wrong.

    ``before``: how often in a row the disk was full, or a lock not to be had, just before. What was paid for may be
    lost each time, as there is no room to keep it.
    """
    if is_lock_conflict(error):
        return backoff(failures, _LOCK_RETRY_S, _MAX_LOCK_RETRY_S)
    return backoff(failures, _ERROR_RETRY_S, _MAX_ERROR_RETRY_S) if is_disk_full(error) else _ERROR_RETRY_S


def describe(error: db.DatabaseError) -> str | None:
    """Return what embed_status is to say of rows that wait for it; None where it is over in a moment."""
    if is_lock_conflict(error):
        return None
    message = db.message(error)
    if is_disk_full(error):
        return f"the disk is full, and work goes on by itself when there is room on it: {message}"
    return message


def model_step(step: Step) -> Step:
    """Make a step raise RetryableError where a statement fails; a cancel stays what it is."""

    def guarded(body: Callable[[], Any], /) -> Any:
        try:
            return step(body)
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            raise RetryableError(db.message(error)) from error

    return guarded


@contextmanager
def not_reentrant(name: str) -> Generator[None]:
    """While this lasts, another drain or worker in this session is refused; raises UserError 55000 for it."""
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
