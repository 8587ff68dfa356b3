"""Snapshots of the server, as pg_current_snapshot() prints them."""

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.db.queries import load

SQL = load(__package__)
_EPOCH = 1 << 32


@frozen
class Snapshot:
    """Which transactions had ended: all before ``xmin``, and those before ``xmax`` that were not ``running``."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read ``xmin:xmax:xid,xid``."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def sees(self, short_xid: int) -> bool:
        """Return whether a transaction, by its 32-bit id, had ended; a future one had not."""
        xid = (self.xmax & ~(_EPOCH - 1)) | short_xid
        if xid >= self.xmax + _EPOCH // 2:
            xid -= _EPOCH
        elif xid < self.xmax - _EPOCH // 2:
            xid += _EPOCH
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)


def current() -> Snapshot:
    """Return the current snapshot."""
    return Snapshot.parse(str(db.value(SQL.snapshot)))
