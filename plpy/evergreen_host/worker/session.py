"""A worker's session: made to last, checked for what it needs, and waited on."""

import select
import time
from collections.abc import Callable
from typing import Any, Self

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict

from evergreen_host.database import OPTIONS, settle
from evergreen_host.worker import requirements

WAKE, MORE = "evergreen_wake", "evergreen_more"
LONGEST_CALL = "60 s"

# Without these a connection whose other end is gone looks as if nothing were to be told, for hours.
_DEFAULTS = {
    "application_name": "evergreen worker", "connect_timeout": "10", "keepalives": "1", "keepalives_idle": "10",
    "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000",
}  # fmt: skip
# The server must notice it as well: while it does not, a sleeper that is gone keeps its lock.
_SETTINGS = {
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000", "client_min_messages": "warning",
}  # fmt: skip


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Open a connection that notices when its other end is gone; what the DSN says of that counts."""
    given = conninfo_to_dict(dsn)
    defaults: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
    # A pooler may know nothing of prepared statements.
    return psycopg.connect(dsn, **OPTIONS, prepare_threshold=None, **defaults)


class Session:
    """Works, sleeps and is woken; raises psycopg.Error when it is lost, EvergreenError when it cannot be."""

    def __init__(self, dsn: str, pipeline: str | None, warn: Callable[[str], None]) -> None:
        self._connection = connect(dsn)
        self._pipeline = pipeline
        self._heard: set[str] = set()
        try:
            self._begin(dsn, warn)
        except BaseException:
            self.close()
            raise

    def _begin(self, dsn: str, warn: Callable[[str], None]) -> None:
        link = self._connection
        link.add_notice_handler(lambda notice: warn(notice.message_primary or ""))
        link.add_notify_handler(lambda notify: self._hear(notify.channel, notify.pid))
        self.pid = requirements.backend(link, lambda: connect(dsn))
        schema = sql.Identifier(requirements.schema(link))
        settle(link, **_SETTINGS)
        for channel in (WAKE, MORE):
            link.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        # Every argument with its type: a procedure of this name by another role is never nearer to the call.
        self._work = sql.SQL(
            "CALL {}.embed_work(%s::pg_catalog.text, max_runtime => {}::pg_catalog.interval, until_empty => false,"
            " slot => NULL::pg_catalog.int4, until_idle => true)"
        ).format(schema, sql.Literal(LONGEST_CALL))
        self._sleep = sql.SQL(
            "SELECT pg_catalog.pg_backend_pid(), s.* FROM {}.embed_sleep(%s::pg_catalog.text) s"
        ).format(schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._connection.close()

    def cancel(self) -> None:
        """Break off what it does; may be called from another thread."""
        self._connection.cancel_safe(timeout=5)

    def work(self) -> None:
        """Work until there is nothing to do, or for a minute."""
        self._connection.execute(self._work, (self._pipeline,))

    def sleep(self, also: int) -> None:
        """Wait until there may be something to do, or until ``also``, a file descriptor, is readable."""
        self._heard.clear()  # what came while it worked was of what it has seen
        pid, asleep, seconds = self._connection.execute(self._sleep, (self._pipeline,)).fetchall()[0]
        if pid != self.pid:
            raise requirements.pooled()
        self._wait({WAKE, MORE} if asleep else {MORE}, seconds, also)

    def _wait(self, channels: set[str], seconds: float, also: int) -> None:
        link = self._connection.pgconn
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(link.socket, select.POLLIN)
        poll.register(also, select.POLLIN)
        while not self._heard & channels and (left := until - time.monotonic()) > 0:
            ready = [number for number, _ in poll.poll(1000 * left + 1)]
            if also in ready:
                return
            if ready:
                self._listen(link)

    def _listen(self, link: pq.abc.PGconn) -> None:
        link.consume_input()  # raises when the other end is gone
        while (notify := link.notifies()) is not None:
            self._hear(notify.relname.decode(), notify.be_pid)

    def _hear(self, channel: str, pid: int) -> None:
        if pid != self.pid:  # what it says itself is for the others
            self._heard.add(channel)
