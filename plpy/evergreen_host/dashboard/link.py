"""A connection that is kept: opened when it is first needed, and again after it was lost."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from evergreen_host.database import SESSION_OPTIONS, Database, Row, configure_session, explained

T = TypeVar("T")
# Without keepalives, a connection whose other end is gone waits for an answer for hours.
_DEFAULTS = {
    "connect_timeout": "5", "keepalives": "1", "keepalives_idle": "10", "keepalives_interval": "5",
    "keepalives_count": "3", "tcp_user_timeout": "20000",
}  # fmt: skip


class Link:
    """One session, used by one thread at a time."""

    def __init__(self, dsn: str, name: str, **settings: str) -> None:
        self._dsn = dsn
        self._name = name
        self._settings = settings
        self._lock = threading.Lock()
        self._database: Database | None = None

    def run(self, body: Callable[[Database], T], *, repeat: bool = True) -> T:
        """Run the body; raises EvergreenError.

        A session that turns out to be lost is replaced, and the body runs once more if ``repeat``: nothing that only
        reads shows an error after a restart of the server.
        """
        with self._lock:
            is_kept = self._database is not None
            try:
                return self._attempt(body)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not (repeat and is_kept and self._database is None):
                    raise explained(error) from error
            except psycopg.Error as error:
                raise explained(error) from error
            try:
                return self._attempt(body)
            except psycopg.Error as error:
                raise explained(error) from error

    def _attempt(self, body: Callable[[Database], T]) -> T:
        database = self._database or self._open()
        self._database = database
        try:
            return body(database)
        except psycopg.errors.LockNotAvailable as error:
            raise (database.lock_problem() or explained(error)) from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
            self._drop()  # the extension may have been dropped, or created in another schema
            raise
        finally:
            if database.connection.closed:
                self._drop()

    def _open(self) -> Database:
        """Open a session; settings in the DSN win."""
        given = conninfo_to_dict(self._dsn)
        defaults: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
        with ExitStack() as stack:
            connection = stack.enter_context(
                psycopg.Connection[Row].connect(
                    self._dsn,
                    **SESSION_OPTIONS,
                    application_name=self._name,
                    row_factory=dict_row,
                    **defaults,
                )
            )
            configure_session(connection, **self._settings)
            database = Database(connection)
            stack.pop_all()
        return database

    def _drop(self) -> None:
        if self._database is not None:
            self._database.connection.close()
            self._database = None

    def close(self) -> None:
        """End the session."""
        with self._lock:
            self._drop()
