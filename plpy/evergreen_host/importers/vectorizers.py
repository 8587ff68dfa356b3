"""Reads pgai's catalog: vectorizers, and the tables with their chunks."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from evergreen_host.database import Database
from evergreen_host.errors import EvergreenError

Config = dict[str, Any]

_HAS_PGAI = "SELECT pg_catalog.to_regclass('ai.vectorizer') IS NOT NULL AS available"
_ALL = "SELECT pg_catalog.to_jsonb(v) AS row FROM ai.vectorizer v ORDER BY v.id"
_COLUMNS = """
SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, NULL) AS type, a.attnotnull AS not_null,
       a.atttypmod AS modifier
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text)) AND a.attnum > 0
  AND NOT a.attisdropped
"""


@dataclass(frozen=True)
class Vectorizer:
    """A row of ai.vectorizer. ``config``: loading, parsing, chunking, formatting, embedding, indexing, destination …"""

    id: int
    name: str
    source: tuple[str, str]  # schema, table
    key: tuple[str, ...]
    config: dict[str, Config]
    disabled: bool

    def part(self, name: str) -> Config:
        """Return one part of the configuration."""
        return self.config.get(name) or {}

    @property
    def target(self) -> tuple[str, str]:
        """Schema and name of the table of chunks."""
        destination = self.part("destination")
        return str(destination.get("target_schema")), str(destination.get("target_table"))


def find(database: Database, selector: str | None) -> Vectorizer:
    """Find a vectorizer by id or name, or the only one; raises EvergreenError."""
    if not database.rows(_HAS_PGAI)[0]["available"]:
        raise EvergreenError(
            f'database "{database.name}" has no pgai: table ai.vectorizer does not exist',
            "pass its database with --dsn; Evergreen must be in the same database",
        )
    rows = [row["row"] for row in database.rows(_ALL)]
    found = [row for row in rows if selector is None or selector in {row.get("name"), str(row["id"])}]
    if len(found) == 1:
        return _vectorizer(found[0])
    available = ", ".join(f"{row['id']} ({row.get('name')})" for row in rows) or "none"
    problem = (
        f'vectorizer "{selector}" does not exist'
        if selector is not None
        else "there are several vectorizers; choose one with --vectorizer"
    )
    raise EvergreenError(
        problem if rows else "pgai has no vectorizer in this database", f"vectorizers in this database: {available}"
    )


def _vectorizer(row: Config) -> Vectorizer:
    config = row["config"]
    if not {"loading", "destination"} <= set(config):
        raise EvergreenError(
            f"vectorizer {row['id']} was created by pgai before 0.10, which has a different catalog",
            "upgrade pgai first: pip install -U pgai; pgai install -d 'postgres://…'",
        )
    key = sorted(row["source_pk"], key=lambda column: column["pknum"])
    return Vectorizer(
        row["id"],
        str(row["name"]),
        (row["source_schema"], row["source_table"]),
        tuple(column["attname"] for column in key),
        config,
        bool(row.get("disabled")),
    )


def columns(database: Database, table: tuple[str, str]) -> dict[str, Config]:
    """Return the columns of a table by name: type, filled (never NULL), modifier; {} when it does not exist."""
    return {row["name"]: row for row in database.rows(_COLUMNS, *table)}


def identifier(table: tuple[str, str]) -> sql.Identifier:
    """Return the qualified name of a table."""
    return sql.Identifier(*table)
