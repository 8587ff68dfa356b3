"""Trying again: bisecting a failing batch, and exponential backoff."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
_MAX_DOUBLINGS = 30  # a float overflows after 1,023


def halves(items: Sequence[T]) -> list[list[T]]:
    """Split items into two lists, the second one longer where they are odd; without empty ones."""
    middle = len(items) // 2
    return [list(half) for half in (items[:middle], items[middle:]) if half]


def _leave(_: object) -> None:
    """Do nothing with what failed."""


def bisect(
    items: list[T],
    attempt: Callable[[list[T]], bool],
    alone: Callable[[list[T]], object] = _leave,
    deadline: float = math.inf,
) -> None:
    """Attempt items as one batch; halve a batch that fails until the item to blame is alone.

    ``attempt`` returns False when the batch failed and left nothing behind. ``alone`` gets each single item that
    failed and, after the ``deadline`` (of ``time.monotonic()``), each batch that did. One item to blame among n costs
    about 2 log2(n) attempts.
    """
    if not items or attempt(items):
        return
    if len(items) == 1 or time.monotonic() > deadline:
        alone(items)
        return
    for half in halves(items):
        bisect(half, attempt, alone, deadline)


def backoff(failures: int, first: float, longest: float, jitter: float = 1.0) -> float:
    """Return the delay after so many earlier failures: ``first``, doubled with each up to ``longest``, times jitter."""
    return min(longest, first * 2.0 ** min(failures, _MAX_DOUBLINGS)) * jitter


class Backoff:
    """Delays that double with each failure until a success."""

    def __init__(self, first: float, longest: float) -> None:
        """``first`` and ``longest``: in the unit of the delays."""
        self._first = first
        self._longest = longest
        self._failures = 0

    @property
    def delay(self) -> float:
        """The delay now."""
        return backoff(self._failures, self._first, self._longest)

    def fail(self) -> None:
        """Double the next delay."""
        self._failures += 1

    def reset(self) -> None:
        """Start over after a success."""
        self._failures = 0
