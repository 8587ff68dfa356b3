"""Wait for conditions; never for seconds."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg


def wait_until(condition: Callable[[], Any], timeout: float = 20.0, what: str = "the condition") -> Any:
    """Return the first true value of a condition; raise TimeoutError."""
    until = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise TimeoutError(f"{what} did not come true within {timeout:g} s")
        time.sleep(0.01)


def begin_to_wait(db: psycopg.Connection[Any], session: psycopg.Connection[Any], key: str | None) -> "Background":
    """An embed_wait in a session, long under way when this returns."""
    session.execute("SELECT embed_wait('docs', timeout => '0 s')")  # loads the library
    wait = Background(session, "SELECT embed_wait('docs', %s::jsonb, '1 hour')", (key,))
    looks = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE '%%embed_wait%%'"
    wait_until(lambda: db.execute(looks, (wait.pid,)).fetchone(), what="the wait")
    db.execute("SELECT embed_wait('docs', timeout => '0.2 s')")
    return wait


class Background:
    """A statement running in a session of its own; ``result()`` waits for it and raises what it raised."""

    def __init__(self, connection: psycopg.Connection[Any], statement: str, parameters: Any = None) -> None:
        self.pid = connection.info.backend_pid
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(connection, statement, parameters), daemon=True)
        self._thread.start()

    def _run(self, connection: psycopg.Connection[Any], statement: str, parameters: Any) -> None:
        try:
            cursor = connection.execute(statement, parameters)
            self._outcome = cursor.fetchall() if cursor.description else None
        except psycopg.Error as error:
            self._error = error

    @property
    def running(self) -> bool:
        """True until the statement has ended."""
        return self._thread.is_alive()

    def result(self, timeout: float = 30.0) -> Any:
        """Wait for the rows."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("the statement is still running")
        if self._error is not None:
            raise self._error
        return self._outcome
