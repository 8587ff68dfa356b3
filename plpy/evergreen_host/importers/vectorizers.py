"""pgai's catalog: a vectorizer as it was created, and the table with its chunks."""

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
        """One part of how it was configured."""
        return self.config.get(name) or {}

    @property
    def target(self) -> tuple[str, str]:
        """Schema and name of the table that has the chunks."""
        destination = self.part("destination")
        return str(destination.get("target_schema")), str(destination.get("target_table"))


def find(database: Database, selector: str | None) -> Vectorizer:
    """Find a vectorizer by id or name, or the only one; raises EvergreenError."""
    if not database.rows(_HAS_PGAI)[0]["available"]:
        raise EvergreenError(
            f'database "{database.name}" has no pgai: there is no table ai.vectorizer',
            "name the database that has it in --dsn; Evergreen must be created in the same one",
        )
    rows = [row["row"] for row in database.rows(_ALL)]
    found = [row for row in rows if selector is None or selector in {row.get("name"), str(row["id"])}]
    if len(found) == 1:
        return _vectorizer(found[0])
    available = ", ".join(f"{row['id']} ({row.get('name')})" for row in rows) or "none"
    problem = f'there is no vectorizer "{selector}"' if selector is not None else "choose one of them with --vectorizer"
    raise EvergreenError(
        problem if rows else "pgai has no vectorizer here", f"vectorizers in this database: {available}"
    )


def _vectorizer(row: Config) -> Vectorizer:
    config = row["config"]
    if not {"loading", "destination"} <= set(config):
        raise EvergreenError(
            f"vectorizer {row['id']} was created by a version of pgai before 0.10, whose catalog is another",
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
    """The qualified name of a table."""
    return sql.Identifier(*table)
