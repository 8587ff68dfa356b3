"""Requirements of a worker's session: the extension, privileges, a primary server, and a backend of its own."""

import select
from collections.abc import Callable
from typing import Any

import psycopg

from evergreen_host.errors import EvergreenError, MissingError, NotPermittedError

Connection = psycopg.Connection[Any]

_POOL_TIMEOUT_MS = 5000  # a full pool keeps a second session waiting
_PID = "SELECT pg_catalog.pg_backend_pid()"
_REQUIREMENTS = """
SELECT pg_catalog.current_database() AS database, current_user AS role, pg_catalog.pg_is_in_recovery() AS standby,
       e.extversion AS version, n.nspname AS schema, p.proname AS callable,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND
           pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS allowed
FROM (SELECT 1) one
LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'evergreen'
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = 'embed_sleep'
"""


def extension_schema(connection: Connection) -> str:
    """Return the extension's schema.

    Raises MissingError, NotPermittedError, and psycopg.OperationalError on a standby.
    """
    database, role, standby, version, schema, sleep_function, allowed = connection.execute(_REQUIREMENTS).fetchall()[0]
    if standby:  # worth a retry: it may be promoted, or the address may move to the primary
        raise psycopg.OperationalError("the server is a standby, which is read-only")
    if version is None:
        raise MissingError(
            f'extension evergreen is not created in database "{database}"',
            "CREATE EXTENSION evergreen CASCADE; or name another database in --dsn",
        )
    if sleep_function is None:
        raise MissingError(
            f'extension evergreen {version} in database "{database}" does not support LISTEN workers',
            "run: evergreen install; then in psql: ALTER EXTENSION evergreen UPDATE;",
        )
    if not allowed:
        raise NotPermittedError(
            f'role "{role}" lacks the privileges of a worker in database "{database}"',
            f'GRANT embed_worker TO "{role}"; GRANT USAGE ON SCHEMA {schema} TO "{role}";',
        )
    return str(schema)


def pooler_error() -> EvergreenError:
    """Return the error for a pooler in transaction mode."""
    return EvergreenError(
        "the connection goes through a pooler in transaction mode, which breaks LISTEN and session locks",
        "connect to the server directly with --dsn, or use a pool in session mode (pgbouncer: pool_mode = session)",
    )


def backend_pid(connection: Connection, open_second: Callable[[], Connection]) -> int:
    """Return the pid of the session's backend; raises EvergreenError if the session has no backend of its own.

    A pooler reports a different pid at connect than the backend does; only then is a second session opened. If that
    session gets the first one's backend, which is between two transactions, the pooler shares backends.
    """
    pid = _current_backend(connection)
    if pid == connection.info.backend_pid:
        return pid
    second = open_second()
    try:
        if _backend_in_transaction(second) == pid or _current_backend(connection) != pid:
            raise pooler_error()
    finally:
        second.close()
    return pid


def _current_backend(connection: Connection) -> int:
    return int(connection.execute(_PID).fetchall()[0][0])


def _backend_in_transaction(connection: Connection) -> int | None:
    """Return the backend's pid and leave the transaction open; None if the pool is full."""
    connection.pgconn.send_query(f"BEGIN; {_PID}".encode())
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if not poll.poll(_POOL_TIMEOUT_MS):
        return None
    numbers = [
        result.get_value(0, 0)
        for result in iter(connection.pgconn.get_result, None)
        if result.ntuples and result.nfields
    ]
    return int(numbers[0] or 0) if numbers else None
