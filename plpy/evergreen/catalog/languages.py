"""The language of a pipeline's texts: a text search configuration of Postgres."""

from typing import Any

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.db.queries import load

SQL = load(__package__)
#: For searches by keyword where the pipeline's option says nothing.
DEFAULT = "pg_catalog.english"


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


def of(options: dict[str, Any]) -> str:
    """Return the language of a pipeline with these options."""
    return str(options.get("language") or DEFAULT)
