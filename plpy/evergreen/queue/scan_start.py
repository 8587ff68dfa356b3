"""Where a worker starts to scan a queue whose deleted rows cannot be vacuumed yet.

While any transaction stays open, every row deleted since remains in the index, before the live rows, and each full scan
reads them all. So after a slow full scan, a worker scans only new rows for some time.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from evergreen.core.frozen import frozen
from evergreen.db.snapshots import Snapshot

T = TypeVar("T")
_CHEAP, _CHEAP_ROW = 0.001, 0.00001  # seconds for a scan, and for each row that it finds
_SHARE = 20  # full scans may take a twentieth of the time
_MAX_INTERVAL_S = 10.0  # seconds
# Seconds between writes: each leaves a row version to be read while nothing can be vacuumed.
_ADVANCE_INTERVAL_S = 1.0


@frozen
class SnapshotMark:
    """What a snapshot sees: transactions that ended before ``end``, except ``open``."""

    end: int
    open: tuple[int, ...] = ()

    @classmethod
    def of(cls, snapshot: Snapshot) -> "SnapshotMark":
        """Return what a snapshot sees."""
        return cls(snapshot.xmax, tuple(sorted(snapshot.running)))


@dataclass
class ScanStart:
    """One queue; ``seen``: what needs no scan until the next full one."""

    seen: SnapshotMark | None = None
    due_at: float = field(default=0.0)
    advanced_at: float = field(default=0.0)

    def is_advance_due(self) -> bool:
        """Return whether to store where the queue starts, for other workers; True at most once a second."""
        now = time.monotonic()
        if now < self.advanced_at + _ADVANCE_INTERVAL_S:
            return False
        self.advanced_at = now
        return True

    def known(self) -> SnapshotMark | None:
        """Return what needs no scan now; None if a full scan is due."""
        return self.seen if time.monotonic() < self.due_at else None

    def record(self, seconds: float, rows: int, *, from_start: bool) -> None:
        """Record the cost of a scan."""
        if from_start:
            is_cheap = seconds <= _CHEAP + _CHEAP_ROW * rows
            self.due_at = 0.0 if is_cheap else time.monotonic() + min(_SHARE * seconds, _MAX_INTERVAL_S)

    def timed(self, body: Callable[[], T], rows: Callable[[T], int], *, from_start: bool) -> T:
        """Run a scan and record its cost."""
        started = time.monotonic()
        result = body()
        self.record(time.monotonic() - started, rows(result), from_start=from_start)
        return result


class ScanStarts:
    """The scan starts of one worker's queues."""

    def __init__(self) -> None:
        self._scan_starts: dict[Hashable, ScanStart] = {}

    def of(self, *queue: Hashable) -> ScanStart:
        """Return the scan start of a queue."""
        return self._scan_starts.setdefault(queue, ScanStart())
