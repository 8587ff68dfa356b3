"""Which transactions everybody sees: with synchronous replication the WAL shows a commit before others see it."""

from dataclasses import dataclass

_EPOCH = 1 << 32


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as pg_current_snapshot() prints it."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read ``xmin:xmax:xid,xid``."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def sees(self, short: int) -> bool:
        """Tell whether a transaction, by its 32-bit number, was over; one that lies in the future was not."""
        xid = (self.xmax & ~(_EPOCH - 1)) | short
        if xid >= self.xmax + _EPOCH // 2:
            xid -= _EPOCH
        elif xid < self.xmax - _EPOCH // 2:
            xid += _EPOCH
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)
