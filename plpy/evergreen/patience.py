"""Wait for a lock only so long: what an open drain has queued or in flight must not hold up anybody else."""

from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.queries import load

SQL = load(__file__)
T = TypeVar("T")

_USUAL = "200ms"  # as embed_elevate() has it


def patiently(body: Callable[[], T], patience: str) -> T | None:
    """Run body in a subtransaction in which no lock is waited for longer; None when that was not enough."""

    def step() -> T:
        db.run(SQL.lock_timeout, patience)
        return body()

    try:
        return db.atomically(step)
    except db.DatabaseError as error:
        if db.sqlstate(error) != "55P03":
            raise
        return None
    finally:
        db.run(SQL.lock_timeout, _USUAL)
