"""Intervals as users write them."""

from evergreen import db
from evergreen.queries import load

SQL = load(__file__)


def is_one(value: str) -> bool:
    """True for an interval that is not negative."""
    try:
        return bool(db.atomically(lambda: db.value(SQL.check_interval, value)))
    except db.DatabaseError as error:
        if db.sqlstate(error).startswith("22"):
            return False
        raise
