"""Workers that LISTEN: the process `evergreen worker`, and its calls made one by one by a session of the test's."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import psycopg
from waiting import wait_until

Connection = psycopg.Connection[Any]

WORK = "CALL embed_work(until_idle => true, max_runtime => '20 s')"
SLEEP = "SELECT asleep, seconds FROM embed_sleep()"
EVERGREEN = Path(sys.executable).with_name("evergreen")


def listen(session: Connection, *channels: str) -> Connection:
    """Have a session hear of the channels; both, if none is named."""
    for channel in channels or ("evergreen_wake", "evergreen_more"):
        session.execute(f"LISTEN {channel}")
    return session


def heard(session: Connection, *, patience: float = 0.1, enough: int | None = None) -> list[str]:
    """The channels of what a session is told: all that comes until it is quiet for so long, or enough of it."""
    session.execute("SELECT 1")
    return [n.channel for n in session.notifies(timeout=patience, stop_after=enough)]


def is_woken(session: Connection) -> bool:
    """Wait for the commit to wake the session, which sleeps."""
    return "evergreen_wake" in heard(session, patience=5, enough=1)


def fall_asleep(session: Connection) -> bool:
    """Work until nothing can be done, then sleep if that is possible; no NOTIFY of before is left."""
    session.execute(WORK)
    heard(session, patience=0)
    (asleep, _) = session.execute(SLEEP).fetchone()
    return asleep


class ListeningWorker:
    """The process; as a context manager it is killed at the end, if it still runs. ``events`` is what it has said."""

    def __init__(self, dsn: str, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [EVERGREEN, "worker", "--json", "--dsn", dsn, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.append(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.send(signal.SIGCONT)
            self._process.kill()
        self._process.communicate()

    @property
    def is_running(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    @property
    def backends(self) -> list[int]:
        """The sessions it has had."""
        return [event["backend"] for event in self.said("connected")]

    def said(self, event: str) -> list[dict[str, Any]]:
        """What it said of that kind."""
        return [one for one in self.events if one["event"] == event]

    def wait_for(self, event: str, number: int = 1) -> None:
        """Wait until it has said this so often."""
        wait_until(lambda: len(self.said(event)) >= number, what=f"event {event!r}")

    def wait_for_sleep(self, db: Connection) -> None:
        """Wait until one of its sessions sleeps."""
        asleep = "SELECT pid FROM pg_locks WHERE classid = 1163285066::oid AND mode = 'ExclusiveLock' AND granted"
        idle = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND pid IN ({asleep}) AND pid = ANY (%s)"
        wait_until(lambda: db.execute(idle, (self.backends,)).fetchone() == (1,), what="a sleeping worker")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._process.pid, number)

    def end(self, timeout: float = 30) -> tuple[int, str]:
        """Wait for the end; return the exit code and what it complained of."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        assert self._process.stderr is not None
        return code, self._process.stderr.read()
