"""Session settings that a worker needs, whatever the database or role sets; restored at its end."""

from collections.abc import Generator
from contextlib import contextmanager

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.db import statement_timeout
from evergreen.db.privileges import STANDBY_HINT, as_extension_owner
from evergreen.db.queries import load

SQL = load(__package__)
# They apply from the next transaction on. Above READ COMMITTED a worker reads old rows and makes writers fail.
_NEEDED = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "transaction_timeout": "0",
}
_TIMEOUT_SHARE = 0.75  # of a statement_timeout that cannot be raised


@contextmanager
def as_needed() -> Generator[float]:
    """Prepare the session for a worker; yield the seconds available. Raises UserError 2D000, 25006."""
    if db.value(SQL.is_standby):
        raise UserError("embed_work cannot run on a standby, which is read-only", "25006", hint=STANDBY_HINT)
    seconds = as_extension_owner(statement_timeout.lift)
    before = _differing()
    _set({name: _NEEDED[name] for name in before})
    _commit()
    try:
        yield seconds * _TIMEOUT_SHARE
    except BaseException:
        if before:  # settings of a failed transaction would be rolled back
            db.rollback()
            _set(before)
            db.commit()
        raise
    _set(before)


def _differing() -> dict[str, str]:
    found = db.rows(SQL.differing_settings, [*_NEEDED], [*_NEEDED.values()])
    return {str(row["name"]): str(row["value"]) for row in found}


def _set(values: dict[str, str]) -> None:
    if values:
        db.rows(SQL.set_for_session, [*values], [*values.values()])


def _commit() -> None:
    try:
        db.commit()
    except db.DatabaseError as error:
        raise UserError(
            "embed_work commits between its steps and cannot do so here",
            "2D000",
            hint="CALL it alone, outside a transaction block, a function or a multi-statement string.",
        ) from error
