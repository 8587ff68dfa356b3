"""The workers of one process, each a thread with its own session; they stop together, after the batches in flight."""

import os
import threading
from contextlib import suppress
from typing import Any

import psycopg

from evergreen_host.backoff import Backoff
from evergreen_host.errors import EvergreenError, NotPermittedError
from evergreen_host.log import Log
from evergreen_host.worker.session import MAX_CALL, Session, connect


class StopSignal:
    """A threading.Event that also makes ``fd`` readable, for threads that poll a socket."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        self._event = threading.Event()

    def set(self) -> None:
        """Stop all threads; safe to call from a signal handler."""
        if not self._event.is_set():
            self._event.set()
            os.write(self._write_fd, b"x")  # never read, so every thread sees it

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait up to so many seconds; return True if the signal is set."""
        return self._event.wait(seconds)


# No such pipeline, no privilege: a retry does not help.
_PERMANENT_ERRORS = {"42704": EvergreenError, "42501": NotPermittedError}
_REQUEST_STOP = "SELECT pg_catalog.pg_try_advisory_lock(1163285067, %s)"
_POLL_INTERVAL = 0.05


class WorkerThread:
    """One worker; ``error`` is the reason if it stopped by itself."""

    def __init__(self, number: int, dsn: str, pipeline: str | None, stop_signal: StopSignal, log: Log) -> None:
        self.error: EvergreenError | None = None
        self.session: Session | None = None
        self._number, self._dsn, self._pipeline = number, dsn, pipeline
        self._stop_signal, self._log = stop_signal, log
        self._was_connected = False
        self._backoff = Backoff()
        self._thread = threading.Thread(target=self._run, name=f"worker {number}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def join(self, seconds: float | None) -> None:
        """Wait for the thread to end."""
        self._thread.join(seconds)

    def _log_event(self, event: str, *, level: str = "info", **details: str | int | float | None) -> None:
        self._log.write(event, level=level, worker=self._number, **details)

    def _run(self) -> None:
        try:
            while not self._stop_signal:
                self._run_session()
        except EvergreenError as error:
            self.error = error
        finally:
            self._stop_signal.set()  # the process ends if one worker fails, so its supervisor notices

    def _run_session(self) -> None:
        """Work over one connection until it is lost or the workers stop."""
        try:
            with Session(
                self._dsn, self._pipeline, lambda text: self._log_event("warning", level="warning", text=text)
            ) as session:
                self.session, self._was_connected = session, True
                self._log_event("connected", backend=session.pid)
                self._work(session)
        except psycopg.Error as error:
            if self._stop_signal:
                self._log_event("canceled", level="warning", error=str(error))
                return
            self._raise_if_permanent(error)
            delay = self._backoff.next_delay()
            self._log_event(
                "disconnected", level="warning", error=str(error), sqlstate=error.sqlstate, retry_in=round(delay, 3)
            )
            self._stop_signal.wait(delay)
        finally:
            self.session = None

    def _work(self, session: Session) -> None:
        while not self._stop_signal:
            session.work()
            self._backoff.reset()
            if not self._stop_signal:
                session.sleep(self._stop_signal.fd)

    def _raise_if_permanent(self, error: psycopg.Error) -> None:
        """Raise errors that a retry does not fix: a wrong call, or a first connection that fails."""
        error_class = _PERMANENT_ERRORS.get(error.sqlstate or "")
        if error_class is not None:
            raise error_class(error.diag.message_primary or str(error), error.diag.message_hint or "") from error
        if not self._was_connected:
            raise EvergreenError(
                f"cannot connect: {error}".strip(), "check --dsn and whether the server runs: psql 'DSN'"
            ) from error


class WorkerPool:
    """The workers of this process."""

    def __init__(self, dsn: str, workers: int, pipeline: str | None, log: Log) -> None:
        self.stop_signal = StopSignal()
        self._dsn, self._log = dsn, log
        self._requested: set[int] = set()
        self._threads = [WorkerThread(number, dsn, pipeline, self.stop_signal, log) for number in range(1, workers + 1)]

    def run(self) -> None:
        """Run until the stop signal is set and all threads have ended; raises the first worker's EvergreenError."""
        for thread in self._threads:
            thread.start()
        while not self.stop_signal.wait(1.0):  # Python runs signal handlers between two waits
            pass
        self._wait_for_threads()
        errors = [thread.error for thread in self._threads if thread.error is not None]
        if errors:
            raise errors[0]

    def cancel_calls(self) -> None:
        """Cancel the calls in progress; other workers can claim those rows at once."""
        for thread in self._threads:
            session = thread.session
            if session is not None:
                with suppress(psycopg.Error):
                    session.cancel()

    def _wait_for_threads(self) -> None:
        """Ask the sessions to end their calls after the batches in flight, and wait for the threads."""
        try:
            with connect(self._dsn) as connection:
                while self._any_alive():
                    self._request_stop(connection)
                    self._threads[0].join(_POLL_INTERVAL)
        except psycopg.Error as error:
            self._log.write("stop_request_failed", level="warning", error=str(error), within=MAX_CALL)
        for thread in self._threads:
            thread.join(None)

    def _any_alive(self) -> bool:
        return any(thread.is_alive for thread in self._threads)

    def _request_stop(self, connection: psycopg.Connection[Any]) -> None:
        """Take each session's stop lock, once; this connection holds it until it closes."""
        sessions = [thread.session for thread in self._threads if thread.is_alive]
        for pid in {session.pid for session in sessions if session is not None} - self._requested:
            if connection.execute(_REQUEST_STOP, (pid,)).fetchone() == (True,):
                self._requested.add(pid)
