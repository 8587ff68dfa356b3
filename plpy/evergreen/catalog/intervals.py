"""Intervals as users write them: what is one, Postgres says."""

from typing import Any

from evergreen import db
from evergreen.errors import UserError
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


def check(options: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline's options; raises UserError 22023 where one that is to be an interval is none."""
    kept = options.get("previous_kept")
    if kept is not None and not is_one(kept):
        raise UserError(f'option "previous_kept" must be an interval, not "{kept}"', hint="For example '7 days'.")
    return options
