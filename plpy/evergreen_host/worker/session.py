"""A worker's session: connect, check the requirements, CALL embed_work, and wait for notifications."""

import select
import time
from collections.abc import Callable
from typing import Any, Self

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict

from evergreen_host.database import SESSION_OPTIONS, configure_session
from evergreen_host.worker import requirements

WAKE_CHANNEL, BACKLOG_CHANNEL = "evergreen_wake", "evergreen_backlog"
MAX_CALL = "60 s"

# Without keepalives, a dead connection looks idle for hours.
_CONNECTION_DEFAULTS = {
    "application_name": "evergreen worker", "connect_timeout": "10", "keepalives": "1", "keepalives_idle": "10",
    "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000",
}  # fmt: skip
# The server must notice a dead client, too: until then its session keeps the sleep lock.
_SESSION_SETTINGS = {
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000", "client_min_messages": "warning",
}  # fmt: skip


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Open a connection with keepalives; settings in the DSN win."""
    given = conninfo_to_dict(dsn)
    defaults: dict[str, Any] = {name: value for name, value in _CONNECTION_DEFAULTS.items() if name not in given}
    # Poolers may not support prepared statements.
    return psycopg.connect(dsn, **SESSION_OPTIONS, prepare_threshold=None, **defaults)


class Session:
    """One connection of a worker; raises psycopg.Error if it is lost, EvergreenError if a requirement is not met."""

    def __init__(self, dsn: str, pipeline: str | None, warn: Callable[[str], None]) -> None:
        self._connection = connect(dsn)
        self._pipeline = pipeline
        self._notified: set[str] = set()
        try:
            self._set_up(dsn, warn)
        except BaseException:
            self.close()
            raise

    def _set_up(self, dsn: str, warn: Callable[[str], None]) -> None:
        connection = self._connection
        connection.add_notice_handler(lambda notice: warn(notice.message_primary or ""))
        connection.add_notify_handler(lambda notify: self._on_notify(notify.channel, notify.pid))
        self.pid = requirements.backend_pid(connection, lambda: connect(dsn))
        schema = sql.Identifier(requirements.extension_schema(connection))
        configure_session(connection, **_SESSION_SETTINGS)
        for channel in (WAKE_CHANNEL, BACKLOG_CHANNEL):
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        # Every argument is typed, so a same-named procedure of another role never matches the call better.
        self._work = sql.SQL(
            "CALL {}.embed_work(%s::pg_catalog.text, max_runtime => {}::pg_catalog.interval, until_empty => false,"
            " slot => NULL::pg_catalog.int4, until_idle => true)"
        ).format(schema, sql.Literal(MAX_CALL))
        self._sleep = sql.SQL(
            "SELECT pg_catalog.pg_backend_pid(), s.* FROM {}.embed_sleep(%s::pg_catalog.text) s"
        ).format(schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def cancel(self) -> None:
        """Cancel the running call; safe to call from another thread."""
        self._connection.cancel_safe(timeout=5)

    def work(self) -> None:
        """Work until the queue is idle, at most MAX_CALL."""
        self._connection.execute(self._work, (self._pipeline,))

    def sleep(self, stop_fd: int) -> None:
        """Wait until there may be work, or until the file descriptor ``stop_fd`` is readable."""
        self._notified.clear()  # notifications during work were for changes it has seen
        pid, asleep, seconds = self._connection.execute(self._sleep, (self._pipeline,)).fetchall()[0]
        if pid != self.pid:
            raise requirements.pooler_error()
        self._wait({WAKE_CHANNEL, BACKLOG_CHANNEL} if asleep else {BACKLOG_CHANNEL}, seconds, stop_fd)

    def _wait(self, channels: set[str], seconds: float, stop_fd: int) -> None:
        connection = self._connection.pgconn
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        poll.register(stop_fd, select.POLLIN)
        while not self._notified & channels and (left := until - time.monotonic()) > 0:
            ready = [number for number, _ in poll.poll(1000 * left + 1)]
            if stop_fd in ready:
                return
            if ready:
                self._read_notifications(connection)

    def _read_notifications(self, connection: pq.abc.PGconn) -> None:
        connection.consume_input()  # raises if the connection is lost
        while (notify := connection.notifies()) is not None:
            self._on_notify(notify.relname.decode(), notify.be_pid)

    def _on_notify(self, channel: str, pid: int) -> None:
        if pid != self.pid:  # its own notifications are for other workers
            self._notified.add(channel)
