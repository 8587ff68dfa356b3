"""Connections to a database that has the extension, with session settings of their own."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from evergreen_host.errors import EvergreenError, MissingError

# psycopg returns bytes for text if the client encoding is SQL_ASCII.
SESSION_OPTIONS: Mapping[str, Any] = {"autocommit": True, "client_encoding": "UTF8"}
_SETTINGS: Mapping[str, str] = {
    "statement_timeout": "0", "transaction_timeout": "0", "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed", "default_transaction_deferrable": "off",
}  # fmt: skip
_SET_SETTINGS = """
SELECT pg_catalog.set_config(s.name, w.value, false)
FROM pg_catalog.pg_settings s JOIN pg_catalog.jsonb_each_text(%s::pg_catalog.jsonb) w (name, value)
  ON s.name OPERATOR(pg_catalog.=) w.name
"""


def configure_session(connection: psycopg.Connection[Any], **more: str) -> None:
    """Override settings of the database or role; settings that this server does not have are skipped."""
    connection.execute(_SET_SETTINGS, (json.dumps({**_SETTINGS, **more}),))


Row = dict[str, Any]

_EXTENSION = """
SELECT pg_catalog.current_database() AS database, e.extversion AS version, n.nspname AS schema
FROM (SELECT 1) one
LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'evergreen'
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
"""


_IS_THERE = "SELECT pg_catalog.to_regclass(%s) IS NOT NULL AS it"
# Whose locks keep a reader of our tables waiting: ACCESS EXCLUSIVE, as of VACUUM FULL, or a queue for it.
_LOCKED = """
SELECT l.relation::pg_catalog.regclass::pg_catalog.text AS name, l.pid,
       coalesce(pg_catalog.left(pg_catalog.regexp_replace(a.query, '\\s+', ' ', 'g'), 60), '') AS query
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('embed', 'embed_store')
JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
ORDER BY l.granted DESC, 1 LIMIT 1
"""
_READ_LOCK_TIMEOUT = "2s"


class Database:
    """Runs queries; ``{schema}`` in a query is the schema of the extension."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self.connection = connection
        row = connection.execute(_EXTENSION).fetchall()[0]
        self.name = str(row["database"])
        if row["version"] is None:
            raise MissingError(
                f'extension evergreen is not created in database "{self.name}"',
                "CREATE EXTENSION evergreen CASCADE; or name another database in --dsn",
            )
        self.version = str(row["version"])
        self.schema = str(row["schema"])

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        """Run a query and return its rows."""
        text = sql.SQL(query).format(schema=sql.Identifier(self.schema))  # pyright: ignore[reportArgumentType]
        return self.connection.execute(text, parameters or None).fetchall()

    def has(self, name: str) -> bool:
        """Return whether this version of the extension has a view of that name."""
        relation = sql.Identifier(self.schema, name).as_string(self.connection)
        return bool(self.rows(_IS_THERE, relation)[0]["it"])

    def lock_problem(self) -> EvergreenError | None:
        """Say which table of ours is locked against readers, and by whom; None when none is any more."""
        found = self.rows(_LOCKED)
        if not found:
            return None
        table, pid, query = found[0]["name"], found[0]["pid"], found[0]["query"]
        if pid is None:
            return EvergreenError(f"table {table} is locked by a prepared transaction", "TABLE pg_prepared_xacts;")
        return EvergreenError(
            f"table {table} is locked by process {pid} ({query}); wait until it is done, or end it",
            f"SELECT pg_terminate_backend({pid});",
        )


@contextmanager
def open_database(dsn: str, application_name: str, *, only_reads: bool = False) -> Generator[Database]:
    """Connect; raises EvergreenError for every error of the connection or of a query within the block.

    ``only_reads``: do not wait for long where another session has locked a table.
    """
    try:
        with psycopg.Connection[Row].connect(
            dsn, **SESSION_OPTIONS, application_name=application_name, row_factory=dict_row
        ) as connection:
            configure_session(connection, **({"lock_timeout": _READ_LOCK_TIMEOUT} if only_reads else {}))
            database = Database(connection)
            try:
                yield database
            except psycopg.errors.LockNotAvailable as error:
                raise (database.lock_problem() or error) from error
    except psycopg.Error as error:
        raise explained(error) from error


def explained(error: psycopg.Error) -> EvergreenError:
    """Return an error of the server or of the connection as a command reports it."""
    message = error.diag.message_primary or str(error).strip() or type(error).__name__
    return EvergreenError(message, error.diag.message_hint or _hint(error))


def _hint(error: psycopg.Error) -> str:
    """Return a hint for errors to which the server adds none."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "connect as a role that has the privilege, or GRANT it"
    return (
        ""
        if error.sqlstate
        else "set --dsn, for example: --dsn 'host=/var/run/postgresql dbname=app'; or PGHOST and PGDATABASE"
    )
