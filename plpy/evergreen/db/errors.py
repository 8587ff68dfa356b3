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
_BY_USER, _BY_TIMEOUT = "canceling statement due to user request", "canceling statement due to statement timeout"
_HAS_TIMEOUT = Query(
    "has_timeout", (), "SELECT pg_catalog.current_setting('statement_timeout') OPERATOR(pg_catalog.<>) '0'"
)
_libc: Any = ctypes.CDLL(None)


def sqlstate(error: object) -> str:
    """Return the SQLSTATE of a DatabaseError, or of what else has one; XX000 for other errors."""
    return getattr(error, "sqlstate", None) or "XX000"


def in_class(error: object, *classes: str) -> bool:
    """Return whether the SQLSTATE begins with one of these, such as ``22`` for invalid data."""
    return sqlstate(error).startswith(classes)


def is_query_canceled(error: object) -> bool:
    """Return whether the SQLSTATE is that of a cancel or a statement timeout; see ``is_genuine_cancel``."""
    return sqlstate(error) == "57014"


def is_shutdown_or_cancel(error: object) -> bool:
    """Return whether the statement or the session was ended from outside: no work is at fault, and none may go on."""
    return in_class(error, "57")


def is_lock_unavailable(error: object) -> bool:
    """Return whether a lock was not granted within lock_timeout, or at once with NOWAIT."""
    return sqlstate(error) == "55P03"


def is_lock_conflict(error: object) -> bool:
    """Return whether a lock was not granted in time, or waiting for it would have been a deadlock."""
    return is_lock_unavailable(error) or sqlstate(error) == "40P01"


def is_object_in_use(error: object) -> bool:
    """Return whether another session uses a slot, a table or the like, and no lock says so."""
    return sqlstate(error) == "55006"


def is_blocked(error: object) -> bool:
    """Return whether another session is in the way, so that the same statement can succeed later."""
    return is_lock_conflict(error) or is_object_in_use(error)


def is_disk_full(error: object) -> bool:
    """Return whether there is no room to write."""
    return sqlstate(error) == "53100"


def is_undefined_table(error: object) -> bool:
    """Return whether a table does not exist, or no longer by that name."""
    return sqlstate(error) == "42P01"


def is_unique_violation(error: object) -> bool:
    """Return whether another session has inserted the same key."""
    return sqlstate(error) == "23505"


def is_dependency(error: object) -> bool:
    """Return whether other objects depend on the one that was to be dropped."""
    return sqlstate(error) == "2BP01"


def is_insufficient_privilege(error: object) -> bool:
    """Return whether the role lacks a privilege."""
    return sqlstate(error) == "42501"


def message(error: BaseException) -> str:
    """Return the primary message of a DatabaseError, without the class names that PL/Python puts before it."""
    return _CLASS_NAMES.sub("", str(error.args[0]) if error.args else str(error))


def unavailable(text: str) -> DatabaseError:
    """Return an error with the SQLSTATE of a lock that was not granted: callers retry it."""
    return plpy.spiexceptions.LockNotAvailable(text)


def lost(text: str) -> DatabaseError:
    """Return an error with SQLSTATE 55000, for a session in an unusable state."""
    return plpy.spiexceptions.ObjectNotInPrerequisiteState(text)


def undefined(text: str) -> DatabaseError:
    """Return an error with the SQLSTATE of a table that does not exist."""
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
    """Return whether an error of our DDL was raised by an event trigger."""
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


def is_genuine_cancel(error: DatabaseError) -> bool:
    """Return whether the server cancelled the statement; a session that it ends never comes here."""
    if not is_query_canceled(error):
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
