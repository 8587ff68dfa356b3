"""Lock timeouts: DDL and writes that never queue for long behind a user's lock."""

import time
from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.db.errors import is_lock_unavailable, is_undefined_table, is_unique_violation
from evergreen.db.queries import load

SQL = load(__package__)
T = TypeVar("T")
_DEFAULT_TIMEOUT = "200ms"  # of embed_elevate()
_SHORT_TIMEOUT = "50ms"  # writers queue behind a session that waits for its lock
LOCK_ATTEMPTS = 100
_RETRY_DELAY_S = 0.1


def set_lock_timeout(timeout: str = _SHORT_TIMEOUT) -> None:
    """Limit waits for locks until the step ends."""
    db.run(SQL.lock_timeout, timeout)


def with_lock_timeout(body: Callable[[], T], timeout: str) -> T | None:
    """Run body in a subtransaction with a ``lock_timeout`` such as ``2s``; None if a lock was not granted."""

    def step() -> T:
        set_lock_timeout(timeout)
        return body()

    try:
        return db.atomically(step)
    except db.DatabaseError as error:
        if not is_lock_unavailable(error):
            raise
        return None
    finally:
        set_lock_timeout(_DEFAULT_TIMEOUT)


def inserts_all(body: Callable[[], int], rows: int, timeout: str) -> bool:
    """Run an INSERT without ON CONFLICT, which costs a third less; False, with nothing done, if it did not insert all.

    Because a row was there, another session was inserting it, or the statement left it out.
    """

    def step() -> bool:
        if body() < rows:
            raise _IncompleteError
        return True

    try:
        return bool(with_lock_timeout(step, timeout))
    except _IncompleteError:
        return False
    except db.DatabaseError as error:
        if not is_unique_violation(error):
            raise
        return False


class _IncompleteError(Exception):
    """Undoes an INSERT."""


def with_short_locks(body: Callable[[], object], table: str) -> None:
    """Run DDL on a user's table without queueing for its lock, which would block every session behind us.

    Raises UserError 42P01 when the table was renamed, and 55P03 after 100 attempts of 50 ms each.
    """
    set_lock_timeout()
    for attempt in range(LOCK_ATTEMPTS):
        try:
            db.atomically(body)
        except db.DatabaseError as error:
            if is_undefined_table(error) and not db.is_of_event_trigger(error):
                raise UserError(db.message(error), "42P01", hint="Try again with its name as it is now.") from error
            if not is_lock_unavailable(error):
                raise
            if attempt == LOCK_ATTEMPTS - 1:
                raise UserError(
                    f"could not lock table {table}: other sessions keep writing to it or hold it in long transactions",
                    "55P03",
                    hint="Try again when they are done; pg_stat_activity and pg_locks show who they are.",
                ) from error
            time.sleep(_RETRY_DELAY_S)  # other sessions get the lock in between
            db.check_interrupts()
        else:
            return
