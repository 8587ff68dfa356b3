"""The language of a pipeline's texts: a text search configuration of Postgres."""

import time
from typing import Any

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.db.queries import load

SQL = load(__package__)
_REMEMBERED_S = 60.0
_server: tuple[float, str] | None = None  # when it was read, and what the server's configuration says


def check(options: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline's options with the language by its full name; raises UserError 42704."""
    language = options.get("language")
    if language is None:
        return options
    return {**options, "language": _full_name(language)}


def _full_name(name: str) -> str:
    try:
        return str(db.atomically(lambda: db.value(SQL.full_name, name)))
    except db.DatabaseError as error:
        if db.sqlstate(error) not in {"42704", "42601", "42602", "3F000", "22P02", "0A000"}:
            raise
        known = ", ".join(row["name"] for row in db.rows(SQL.every))
        raise UserError(
            f'there is no text search configuration "{name}" for option "language"',
            "42704",
            hint=f"There are: {known}. One of another schema is written schema.name.",
        ) from error


def is_indexed(options: dict[str, Any]) -> bool:
    """Return whether workers keep an index over the words: unless the option is null."""
    return "language" not in options or options["language"] is not None


def of(options: dict[str, Any]) -> str:
    """Return the language of a pipeline with these options; needs the extension's rights."""
    return str(options.get("language") or default())


def default() -> str:
    """Return the database's default_text_search_config by its full name, whatever role or session has set.

    Needs the extension's rights. The server's configuration is read once a minute: that takes a millisecond.
    """
    global _server  # noqa: PLW0603 - one server a session
    now = time.monotonic()
    if _server is None or now - _server[0] > _REMEMBERED_S:
        _server = now, str(db.value(SQL.server_language))
    return str(db.value(SQL.default_language, _server[1]))
