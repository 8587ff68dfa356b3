"""The workers of one process: a thread and a session each; they end together, with what they have under way done."""

import os
import threading
from contextlib import suppress
from typing import Any

import psycopg

from evergreen_host.backoff import Pauses
from evergreen_host.errors import EvergreenError, NotPermittedError
from evergreen_host.log import Log
from evergreen_host.worker.session import LONGEST_CALL, Session, connect


class Stopping:
    """Set once and for good; ``fd`` becomes readable then, for whoever waits on a socket, too."""

    def __init__(self) -> None:
        self.fd, self._other_end = os.pipe()
        self._event = threading.Event()

    def begin(self) -> None:
        """Tell everybody; may be called from a signal handler."""
        if not self._event.is_set():
            self._event.set()
            os.write(self._other_end, b"x")  # never read, so that all who wait see it

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until it begins, or so long; True when it has begun."""
        return self._event.wait(seconds)


_FOR_GOOD = {"42704": EvergreenError, "42501": NotPermittedError}  # no such pipeline, no right: waiting does not help
_ASK = "SELECT pg_catalog.pg_try_advisory_lock(1163285067, %s)"
_SLICE = 0.05


class Member:
    """One worker; ``error`` is what it ended for, if it was not told to end."""

    def __init__(self, number: int, dsn: str, pipeline: str | None, stopping: Stopping, log: Log) -> None:
        self.error: EvergreenError | None = None
        self.session: Session | None = None
        self._number, self._dsn, self._pipeline = number, dsn, pipeline
        self._stopping, self._log = stopping, log
        self._was_connected = False
        self._pauses = Pauses()
        self._thread = threading.Thread(target=self._live, name=f"worker {number}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return self._thread.is_alive()

    def join(self, seconds: float | None) -> None:
        """Wait for its end."""
        self._thread.join(seconds)

    def _say(self, event: str, *, level: str = "info", **details: str | int | float | None) -> None:
        self._log.say(event, level=level, worker=self._number, **details)

    def _live(self) -> None:
        try:
            while not self._stopping:
                self._connected()
        except EvergreenError as error:
            self.error = error
        finally:
            self._stopping.begin()  # one that cannot go on ends them all, so that whoever started them takes notice

    def _connected(self) -> None:
        """Work over one connection, until it is lost."""
        try:
            with Session(
                self._dsn, self._pipeline, lambda text: self._say("warning", level="warning", text=text)
            ) as session:
                self.session, self._was_connected = session, True
                self._say("connected", backend=session.pid)
                self._work(session)
        except psycopg.Error as error:
            if self._stopping:
                self._say("broken off", level="warning", error=str(error))
                return
            self._judge(error)
            pause = self._pauses.next()
            self._say(
                "disconnected", level="warning", error=str(error), sqlstate=error.sqlstate, retry_in=round(pause, 3)
            )
            self._stopping.wait(pause)
        finally:
            self.session = None

    def _work(self, session: Session) -> None:
        while not self._stopping:
            session.work()
            self._pauses.reset()
            if not self._stopping:
                session.sleep(self._stopping.fd)

    def _judge(self, error: psycopg.Error) -> None:
        """Raise what no attempt will mend: a wrong call, and a first connection that does not come about."""
        kind = _FOR_GOOD.get(error.sqlstate or "")
        if kind is not None:
            raise kind(error.diag.message_primary or str(error), error.diag.message_hint or "") from error
        if not self._was_connected:
            raise EvergreenError(
                f"cannot connect: {error}".strip(), "Is --dsn right, and does the server run?"
            ) from error


class Team:
    """All workers of the process."""

    def __init__(self, dsn: str, workers: int, pipeline: str | None, log: Log) -> None:
        self.stopping = Stopping()
        self._dsn, self._log = dsn, log
        self._asked: set[int] = set()
        self._members = [Member(number, dsn, pipeline, self.stopping, log) for number in range(1, workers + 1)]

    def run(self) -> None:
        """Work until it is to stop and everybody has; raises the EvergreenError for which one of them ended."""
        for member in self._members:
            member.start()
        while not self.stopping.wait(1.0):  # in slices: a signal is handled between them
            pass
        self._finish()
        errors = [member.error for member in self._members if member.error is not None]
        if errors:
            raise errors[0]

    def break_off(self) -> None:
        """Give up what is under way; the server gives it to others at once."""
        for member in self._members:
            session = member.session
            if session is not None:
                with suppress(psycopg.Error):
                    session.cancel()

    def _finish(self) -> None:
        """Ask those that are in a call to end it with what they have under way, and wait for them."""
        try:
            with connect(self._dsn) as link:
                while self._is_at_work():
                    self._ask(link)
                    self._members[0].join(_SLICE)
        except psycopg.Error as error:
            self._log.say("cannot ask for the end", level="warning", error=str(error), within=LONGEST_CALL)
        for member in self._members:
            member.join(None)

    def _is_at_work(self) -> bool:
        return any(member.is_alive for member in self._members)

    def _ask(self, link: psycopg.Connection[Any]) -> None:
        """Take the lock that stands for it, once: it is kept until we are gone."""
        sessions = [member.session for member in self._members if member.is_alive]
        for pid in {session.pid for session in sessions if session is not None} - self._asked:
            if link.execute(_ASK, (pid,)).fetchone() == (True,):
                self._asked.add(pid)
