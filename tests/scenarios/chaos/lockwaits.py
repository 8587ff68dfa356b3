"""Who waits for whom: the locks that writers wait for, sampled, and whether a worker is the cause."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

_WAITING = """
SELECT l.pid, a.application_name, l.mode, concat_ws(' ', l.locktype, l.relation::regclass::text),
       coalesce(extract(epoch FROM clock_timestamp() - l.waitstart), 0)::float8, pg_blocking_pids(l.pid), a.query
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND a.datname = current_database()
"""
_WORKERS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'worker %' AND datname = current_database()"


@dataclass(frozen=True)
class Waiting:
    """One writer seen waiting."""

    who: str
    mode: str
    what: str
    seconds: float
    blockers: tuple[int, ...]
    query: str

    @property
    def is_for_a_table(self) -> bool:
        """True for TRUNCATE, which waits for readers of the table."""
        return self.mode == "AccessExclusiveLock"

    @property
    def is_for_a_page(self) -> bool:
        """True for the extension of a file, a lock that an insert holds for an instant, not one on a row or table."""
        return self.what.startswith("extend ")


class LockWaits:
    """Looks every few milliseconds until it is stopped."""

    def __init__(self, connect: Callable[[str], Connection]) -> None:
        self.longest = 0.0
        self.samples = 0
        self.behind_workers: list[Waiting] = []  # also by way of another writer
        self.on_workers: list[Waiting] = []  # directly, and not for a whole table or for the next page of a file
        self._connect = lambda: connect("monitor")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.samples

    @property
    def longest_behind_workers(self) -> float:
        """Seconds that a writer waited because of a worker."""
        return max((one.seconds for one in self.behind_workers), default=0.0)

    def _live(self) -> None:
        while not self._stop.is_set():
            with suppress(psycopg.OperationalError), self._connect() as session:
                while not self._stop.wait(0.01):
                    self._look(session)
            self._stop.wait(0.05)

    def _look(self, session: Connection) -> None:
        rows = session.execute(_WAITING).fetchall()
        self.samples += 1
        if not rows:
            return
        waiting = {row[0]: Waiting(*row[1:5], tuple(row[5]), row[6]) for row in rows}
        # A worker that waits itself is only in the queue: the session it waits for is the cause.
        causes = {row[0] for row in session.execute(_WORKERS).fetchall()} - set(waiting)
        for one in waiting.values():
            if one.who.startswith("writer "):
                self._note(one, waiting, causes)

    def _note(self, one: Waiting, waiting: dict[int, Waiting], causes: set[int]) -> None:
        self.longest = max(self.longest, one.seconds)
        if causes.intersection(one.blockers) and not one.is_for_a_table and not one.is_for_a_page:
            self.on_workers.append(one)
        seen: set[int] = set()
        front = set(one.blockers)
        while front - seen:
            seen |= front
            front = {pid for blocker in front if blocker in waiting for pid in waiting[blocker].blockers}
        if seen & causes:
            self.behind_workers.append(one)
