"""How far a generation that is being built has come, measured against the active one."""

import time
from dataclasses import dataclass

from evergreen import db
from evergreen.catalog.pipelines import Generation
from evergreen.queries import load

SQL = load(__file__)

_PATIENCE = 3.0  # seconds; rows that come in just now are embedded in one generation first, and then in the other
_FEW = 1000  # rows that may be such
_PAUSE = 0.02


@dataclass(frozen=True)
class Coverage:
    """Of the keys embedded in one generation, how many have a document in the other; no dead letters of either."""

    keys: int
    covered: int

    @property
    def share(self) -> float:
        """From 0 to 1; all of nothing is 1."""
        return self.covered / self.keys if self.keys else 1.0

    @property
    def missing(self) -> int:
        """Keys that have no document yet."""
        return self.keys - self.covered


def measure(active: Generation, building: Generation) -> Coverage:
    """Count, in the snapshot of now."""
    row = db.one(SQL.coverage, active.id, building.id)
    assert row is not None
    return Coverage(row["keys"], row["covered"])


def reached(active: Generation, building: Generation, least: float) -> Coverage:
    """Measure, again and again while only a few keys are missing: under steady writes some always are on their way."""
    until = time.monotonic() + _PATIENCE
    while True:
        found = measure(active, building)
        if found.share >= least or found.missing > _FEW or time.monotonic() > until:
            return found
        time.sleep(_PAUSE)  # workers commit meanwhile, and each look has a snapshot of its own
        db.check_interrupts()
