"""Where a worker begins to look in queues of which the part that is done cannot be vacuumed away yet.

While any transaction stays open, every row that was deleted since stands in the index still, in front of those that
are left, and each look from the start reads them all. So a look from the start that took long is not repeated for some
time; until then only what is new is looked at.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
_CHEAP, _CHEAP_ROW = 0.001, 0.00001  # seconds for a look, and for each row that it finds
_SHARE = 20  # a look from the start may take a twentieth of the time
_LONGEST = 10.0  # seconds
# Seconds: what is written each time has as many versions to be read through, while nothing can be vacuumed away.
_RAISED = 1.0


@dataclass(frozen=True)
class SnapshotMark:
    """What was to be seen in a snapshot: all that ended before ``end``, except ``open``."""

    end: int
    open: tuple[int, ...] = ()

    @classmethod
    def parse(cls, snapshot: str) -> "SnapshotMark":
        """Read a pg_snapshot."""
        _, end, running = snapshot.split(":")
        return cls(int(end), tuple(int(one) for one in running.split(",") if one))


@dataclass
class ScanStart:
    """One queue; ``seen``: what needs no look until the next one from the start."""

    seen: SnapshotMark | None = None
    due_at: float = field(default=0.0)
    raised_at: float = field(default=0.0)

    def is_to_be_raised(self) -> bool:
        """Tell whether to write down, for others, where the queue begins; true once a second at most."""
        now = time.monotonic()
        if now < self.raised_at + _RAISED:
            return False
        self.raised_at = now
        return True

    def known(self) -> SnapshotMark | None:
        """Return what needs no look now; None when it is time for one from the start."""
        return self.seen if time.monotonic() < self.due_at else None

    def looked(self, seconds: float, rows: int, *, from_start: bool) -> None:
        """Note what a look cost."""
        if from_start:
            is_cheap = seconds <= _CHEAP + _CHEAP_ROW * rows
            self.due_at = 0.0 if is_cheap else time.monotonic() + min(_SHARE * seconds, _LONGEST)

    def timed(self, body: Callable[[], T], rows: Callable[[T], int], *, from_start: bool) -> T:
        """Take a look, and note what it cost."""
        started = time.monotonic()
        result = body()
        self.looked(time.monotonic() - started, rows(result), from_start=from_start)
        return result


class ScanStarts:
    """The queues that one worker looks at."""

    def __init__(self) -> None:
        self._scan_starts: dict[Hashable, ScanStart] = {}

    def of(self, *queue: Hashable) -> ScanStart:
        """Return that of a queue."""
        return self._scan_starts.setdefault(queue, ScanStart())
