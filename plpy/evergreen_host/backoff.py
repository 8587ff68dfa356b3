"""Pauses between attempts to connect: each about twice as long as the one before, and no two workers' alike."""

import random

_FIRST, _LONGEST = 0.1, 30.0  # seconds


class Pauses:
    """Exponential backoff with jitter."""

    def __init__(self) -> None:
        self._next = _FIRST

    def reset(self) -> None:
        """Begin anew: something went well."""
        self._next = _FIRST

    def next(self) -> float:
        """Return how many seconds to wait now."""
        pause, self._next = self._next, min(2 * self._next, _LONGEST)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
