"""Identifiers and string constants in generated SQL."""

from collections.abc import Sequence

import plpy
from evergreen.db.server_encoding import server


def identifier(name: str) -> str:
    """Quote an identifier."""
    if name.isascii() or server.is_utf8:
        return plpy.quote_ident(name)
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string constant."""
    if text.isascii() or server.is_utf8:
        return plpy.quote_literal(text)
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in text else quoted


def identifiers(names: Sequence[str]) -> str:
    """Quote identifiers and join them by commas."""
    return ", ".join(identifier(name) for name in names)
