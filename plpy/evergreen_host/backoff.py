"""Exponential backoff with jitter between attempts to connect."""

import random

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0  # seconds


class Backoff:
    """Delays that double up to a maximum; jitter keeps workers from reconnecting at the same moment."""

    def __init__(self) -> None:
        self._delay = _FIRST_DELAY

    def reset(self) -> None:
        """Start over after a success."""
        self._delay = _FIRST_DELAY

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay, self._delay = self._delay, min(2 * self._delay, _LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
