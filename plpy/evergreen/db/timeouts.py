"""Time limits for an owner's code: cancels it, and ends the session where the code catches the cancel.

The planner may run an owner's functions, and one that never returns would keep one worker after the other. A thread
could not do it, because SQL holds Python's lock: it is a timer of the operating system's, which sends a signal.
"""

import ctypes
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from evergreen import db
from evergreen.db.errors import is_query_canceled
from evergreen.db.queries import load

SQL = load(__package__)
T = TypeVar("T")
_LEASE_DIVISOR = 5  # a claim has to be embedded and written within its lease, too
_TERMINATE_AFTER_S = 5.0  # after the cancel
_CLOCK_MONOTONIC = 1
_libc: Any = ctypes.CDLL(None)
_limit = float("inf")
_timed_out_after = 0.0


class SlowSourceError(db.DatabaseError):
    """An owner's code exceeded its time limit and was cancelled."""

    sqlstate = "55000"


class _Event(ctypes.Structure):
    """struct sigevent: sends a signal."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_int * 12),
    )


class _Times(ctypes.Structure):
    """struct itimerspec: once."""

    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Limit each ``run_with_timeout`` inside to so many seconds."""
    global _limit  # noqa: PLW0603 - a session works on one thing at a time
    before, _limit = _limit, seconds
    try:
        yield
    finally:
        _limit = before


def take_timeout() -> float:
    """Return the limit, in seconds, that was exceeded since the last call; 0 if none was."""
    global _timed_out_after
    seconds, _timed_out_after = _timed_out_after, 0.0
    return seconds


def timed_out() -> bool:
    """Return whether a limit was exceeded since the last ``take_timeout``."""
    return _timed_out_after > 0


def run_with_timeout(body: Callable[[], T]) -> T:
    """Run a body that reads an owner's table, for at most a fifth of a lease or the ``time_limit``.

    Raises SlowSourceError when it took longer.
    """
    global _timed_out_after  # noqa: PLW0603 - as above
    seconds = min(_limit, float(db.value(SQL.lease)) / _LEASE_DIVISOR)
    until = time.monotonic() + seconds
    timers = [_start(signal.SIGINT, seconds), _start(signal.SIGTERM, seconds + _TERMINATE_AFTER_S)]
    try:
        return body()
    except db.DatabaseError as error:
        if not is_query_canceled(error) or time.monotonic() < until:
            raise
        _timed_out_after = seconds
        raise SlowSourceError(f"reading it took more than {seconds:.1f} s") from error
    finally:
        for timer in timers:
            _stop(timer)
        if time.monotonic() >= until:
            _absorb_cancel()


def _start(number: signal.Signals, seconds: float) -> ctypes.c_void_p | None:
    if not hasattr(_libc, "timer_create"):
        return None  # macOS has none
    timer = ctypes.c_void_p()
    event = _Event(signal=number, notify=0)
    if _libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        return None
    whole = int(seconds)
    times = _Times(value=(ctypes.c_long * 2)(whole, int((seconds - whole) * 1e9)))
    _libc.timer_settime(timer, 0, ctypes.byref(times), None)
    return timer


def _stop(timer: ctypes.c_void_p | None) -> None:
    if timer is not None:
        _libc.timer_delete(timer)


def _absorb_cancel() -> None:
    """Receive our own cancel if it is still pending: the statement it was meant for is over."""
    try:
        db.atomically(db.check_interrupts)
    except db.DatabaseError as error:
        if not is_query_canceled(error):
            raise
