"""Errors of the server: what they say, and what kind they are."""

import ctypes
import re
from typing import Any

import plpy
from evergreen import db
from evergreen.core.errors import UserError
from evergreen.db import encoding
from evergreen.db.queries import Query

#: Raised by a failed statement; ``sqlstate(error)`` tells which.
DatabaseError = plpy.SPIError
_CLASS_NAMES = re.compile(r"^(?:(?:spiexceptions|plpy)\.\w+: )+")
# One that is not ours, in whose function the statement stands that failed.
_EVENT_TRIGGER = Query(
    "event_trigger",
    ("text",),
    "SELECT pg_catalog.quote_ident(t.evtname) AS name, t.evtfoid::pg_catalog.regprocedure::pg_catalog.text AS function,"
    " pg_catalog.quote_ident(n.nspname) AS schema,"
    " EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AS has_path"
    " FROM pg_catalog.pg_event_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.evtfoid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " WHERE t.evtenabled <> 'D' AND pg_catalog.strpos(p.prosrc, $1) > 0 LIMIT 1",
)
_NAMED = "event trigger "
_CANCELLED = "57014"
_BY_USER, _BY_TIMEOUT = "canceling statement due to user request", "canceling statement due to statement timeout"
_HAS_TIMEOUT = Query(
    "has_timeout", (), "SELECT pg_catalog.current_setting('statement_timeout') OPERATOR(pg_catalog.<>) '0'"
)
_libc: Any = ctypes.CDLL(None)


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a DatabaseError."""
    return getattr(error, "sqlstate", None) or "XX000"


def message(error: BaseException) -> str:
    """Return the primary message of a DatabaseError, without the class names that PL/Python puts before it."""
    return _CLASS_NAMES.sub("", str(error.args[0]) if error.args else str(error))


def unavailable(text: str) -> DatabaseError:
    """Return an error as of a lock that was not to be had: whoever gets it tries again."""
    return plpy.spiexceptions.LockNotAvailable(text)


def lost(text: str) -> DatabaseError:
    """Return an error as of a session that is not what it has to be."""
    return plpy.spiexceptions.ObjectNotInPrerequisiteState(text)


def undefined(text: str) -> DatabaseError:
    """Return an error as of a table that is not there."""
    return plpy.spiexceptions.UndefinedTable(text)


def hint(error: BaseException) -> str | None:
    """Return the HINT of a DatabaseError."""
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None, None, None)
    return found[2]


def plain(error: BaseException) -> UserError:
    """Return a DatabaseError as one to show: its message, SQLSTATE, detail and hint."""
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None, None, None)
    return UserError(message(error), sqlstate(error), hint=hint(error), detail=found[1])


def is_of_event_trigger(error: DatabaseError) -> bool:
    """Tell whether an error of our DDL was raised by an event trigger."""
    return message(error).startswith(_NAMED)


def name_event_trigger(error: Any) -> None:
    """Say of an error which event trigger raised it: our DDL runs with a search_path that it may not be made for.

    It cannot run with the caller's: it acts with the extension's rights here, and would take the caller's tables.
    """
    found: tuple[Any, ...] = getattr(error, "spidata", None) or (None,) * 4
    statement = found[3]  # where the error came from a statement inside
    trigger = db.one(_EVENT_TRIGGER, statement) if statement else None
    if trigger is None:
        return
    error.args = (f"{_NAMED}{trigger['name']} failed on DDL of evergreen: {message(error)}",)
    path = f"ALTER FUNCTION {trigger['function']} SET search_path = {trigger['schema']}, pg_temp;"
    advice = f"{path} evergreen runs DDL with the search_path pg_catalog, pg_temp"
    error.spidata = (*found[:2], found[2] if trigger["has_path"] else advice, *found[3:])


def is_cancel(error: DatabaseError) -> bool:
    """Tell whether the server cancelled the statement; a session that it ends never comes here."""
    if sqlstate(error) != _CANCELLED:
        return False
    if not hasattr(_libc, "gettext"):
        return True  # it cannot be told
    said = message(error)
    return said == _translated(_BY_USER) or (said == _translated(_BY_TIMEOUT) and bool(db.value(_HAS_TIMEOUT)))


def _translated(message: str) -> str:
    """Return a message of the server's in the session's language."""
    _libc.gettext.restype = ctypes.c_char_p
    found: bytes = _libc.gettext(message.encode())
    return found.decode(encoding.codec(db.server.encoding), "replace")
