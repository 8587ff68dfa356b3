"""Tells a cancel from an error to which code has given the SQLSTATE of a cancel.

A function may raise query_canceled itself, and dblink repeats that of another server. PL/Python sees the SQLSTATE and
the message only, so the message is compared with the server's own, in the language of the session.
"""

import ctypes
from typing import Any

from evergreen import db
from evergreen.db import encoding
from evergreen.db.queries import Query

_CANCELLED = "57014"
_BY_USER, _BY_TIMEOUT = "canceling statement due to user request", "canceling statement due to statement timeout"
_HAS_TIMEOUT = Query(
    "has_timeout", (), "SELECT pg_catalog.current_setting('statement_timeout') OPERATOR(pg_catalog.<>) '0'"
)
_libc: Any = ctypes.CDLL(None)


def is_cancel(error: db.DatabaseError) -> bool:
    """Tell whether the server cancelled the statement; a session that it ends never comes here."""
    if db.sqlstate(error) != _CANCELLED:
        return False
    if not hasattr(_libc, "gettext"):
        return True  # it cannot be told
    said = db.message(error)
    return said == _translated(_BY_USER) or (said == _translated(_BY_TIMEOUT) and bool(db.value(_HAS_TIMEOUT)))


def _translated(message: str) -> str:
    """Return a message of the server's in the session's language."""
    _libc.gettext.restype = ctypes.c_char_p
    found: bytes = _libc.gettext(message.encode())
    return found.decode(encoding.codec(db.server.encoding), "replace")
