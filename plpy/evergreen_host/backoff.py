"""Pauses between attempts to connect: each about twice as long as the one before, and no two workers' alike."""

import random

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0  # seconds


class Backoff:
    """Exponential backoff with jitter."""

    def __init__(self) -> None:
        self._delay = _FIRST_DELAY

    def reset(self) -> None:
        """Begin anew: something went well."""
        self._delay = _FIRST_DELAY

    def next_delay(self) -> float:
        """Return how many seconds to wait now."""
        delay, self._delay = self._delay, min(2 * self._delay, _LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
