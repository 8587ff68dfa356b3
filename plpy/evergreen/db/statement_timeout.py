"""The timeouts that a database or a role sets for every statement: a worker lifts them, a drain ends before them.

PostgreSQL arms statement_timeout when a command arrives, and neither COMMIT nor SET inside of the command changes it. A
value that was SET in the session is the caller's word and stays what it is: a cancel.
"""

import ctypes
from typing import Any

from evergreen import db
from evergreen.db.queries import load

SQL = load(__package__)
_STATEMENT_TIMEOUT = 3  # of enum TimeoutId, in PostgreSQL 15 to 18
_TOLERANCE = 2.0  # seconds between when PostgreSQL armed its timer and what we take for it
_EPOCH = 946_684_800  # PostgreSQL counts from 2000-01-01
_postgres: Any = ctypes.CDLL(None)


def lift() -> float:
    """Disarm the timer of the command that is running; return the seconds that are left to it, inf for no limit."""
    row = _limits()
    if row["statement_left"] is None or _disarm(float(row["due_at"])):
        return float("inf")
    return float(row["statement_left"])


def left() -> float:
    """Return the seconds until the statement is cancelled or its transaction is ended; inf where nothing does."""
    row = _limits()
    return min(
        float(row[name]) if row[name] is not None else float("inf") for name in ("statement_left", "transaction_left")
    )


def _limits() -> db.Row:
    row = db.one(SQL.limits)
    assert row is not None
    return row


def _disarm(due_at: float) -> bool:
    """Disarm it if the server lets us, and if the timer is the one we think it is."""
    try:
        finish, disable = _postgres.get_timeout_finish_time, _postgres.disable_timeout
    except AttributeError:  # a build that exports nothing
        return False
    finish.restype = ctypes.c_int64
    if not _postgres.get_timeout_active(_STATEMENT_TIMEOUT):
        return True
    if abs(finish(_STATEMENT_TIMEOUT) / 1e6 + _EPOCH - due_at) > _TOLERANCE:
        return False
    disable(_STATEMENT_TIMEOUT, ctypes.c_bool())
    return True
