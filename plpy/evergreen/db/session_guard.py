"""Undo what an owner's code leaves in the session that runs it: advisory locks and prepared statements."""

from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.db.queries import load

SQL = load(__package__)
T = TypeVar("T")


def contained(body: Callable[[], T]) -> T:
    """Run a body that runs an owner's code and undoes its own subtransaction; raises DatabaseError 55000.

    It raises where that code took from the session what cannot be given back: a statement that the client prepared, or
    a cursor.
    """
    before = state()
    try:
        result = body()
    except BaseException:
        restore(before)
        raise
    lost = restore(before)
    if lost is not None:
        raise db.lost(f"its owner's code removed from this session: {lost}")
    return result


def state() -> list[str]:
    """Return what ``restore`` compares with."""
    found: list[str] = db.value(SQL.state)
    return found


def restore(before: list[str]) -> str | None:
    """Undo what was added since; return the names of what is gone for good, or None."""
    lost = db.value(SQL.restore, before)
    return str(lost) if lost is not None else None
