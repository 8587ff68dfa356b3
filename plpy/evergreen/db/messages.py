"""Errors, notices and warnings for the client, and lines for the server's log."""

from collections.abc import Callable
from typing import NoReturn

import plpy
from evergreen.core.errors import UserError
from evergreen.db.server_encoding import server

Say = Callable[[str], None]
# PL/Python puts the class's name before the message: "evergreen: pipeline … does not exist" is one to read.
_Shown = type("evergreen", (plpy.Error,), {"__module__": "builtins"})


def fail(error: UserError) -> NoReturn:
    """Raise a UserError as a Postgres error."""
    shown = _Shown(server.message(error.message))
    for name in ("sqlstate", "hint", "detail"):
        if (text := getattr(error, name)) is not None:
            setattr(shown, name, server.message(text))
    raise shown from None


def notice(text: str) -> None:
    """Send a NOTICE to the client."""
    plpy.notice(server.message(text))


def warning(text: str, hint: str | None = None) -> None:
    """Send a WARNING to the client and the server log."""
    plpy.warning(server.message(text), **({"hint": server.message(hint)} if hint else {}))


def log(text: str) -> None:
    """Write a line to the server log, at level LOG."""
    plpy.log(server.message(text))


def debug(text: str) -> None:
    """Write a line to the server log where it takes DEBUG2."""
    plpy.debug(server.message(text))
