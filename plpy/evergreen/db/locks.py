"""Locks that are waited for only so long."""

import time
from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.db.errors import is_lock_unavailable, is_undefined_table
from evergreen.db.queries import load

SQL = load(__package__)
T = TypeVar("T")
_USUAL = "200ms"  # as embed_elevate() has it
LOCK_ATTEMPTS = 100
_PAUSE = 0.1


def with_lock_timeout(body: Callable[[], T], patience: str) -> T | None:
    """Run body in a subtransaction in which no lock is waited for longer; None when that was not enough."""

    def step() -> T:
        db.run(SQL.lock_timeout, patience)
        return body()

    try:
        return db.atomically(step)
    except db.DatabaseError as error:
        if not is_lock_unavailable(error):
            raise
        return None
    finally:
        db.run(SQL.lock_timeout, _USUAL)


def with_short_locks(body: Callable[[], object], table: str) -> None:
    """Run DDL on a user's table without queueing for its lock: a waiting lock would stop everybody behind it."""
    db.run(SQL.short_locks)
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
            time.sleep(_PAUSE)  # between two short tries for the lock, so that nobody queues behind us
            db.check_interrupts()
        else:
            return
