"""How long rows and pipelines wait after an error, and the words of errors that embed_status shows."""

from evergreen import db
from evergreen.core.retry import backoff
from evergreen.db.errors import is_disk_full, is_lock_conflict

IN_FLIGHT_RETRY_S = 0.2  # seconds until rows that wait for a text in flight elsewhere may be claimed again
ERROR_RETRY_S = 5.0
_MAX_ERROR_RETRY_S = 60.0
_LOCK_RETRY_S = 0.2  # seconds, when a lock was not available
_MAX_LOCK_RETRY_S = 5.0  # each try costs a lock_timeout, which delays the other pipelines


def retry_delay(error: db.DatabaseError, failures: int) -> float:
    """Return the seconds to wait: short after a lock conflict, longer after other errors.

    ``failures``: how often in a row the disk was full or a lock was not available. On a full disk each try can lose
    answers that were paid for, because there is no room to keep them.
    """
    if is_lock_conflict(error):
        return backoff(failures, _LOCK_RETRY_S, _MAX_LOCK_RETRY_S)
    return backoff(failures, ERROR_RETRY_S, _MAX_ERROR_RETRY_S) if is_disk_full(error) else ERROR_RETRY_S


def describe(error: db.DatabaseError) -> str | None:
    """Return the error that embed_status shows for waiting rows; None for a short lock conflict."""
    if is_lock_conflict(error):
        return None
    message = db.message(error)
    if is_disk_full(error):
        return f"the disk is full; work resumes by itself when there is space: {message}"
    return message
