"""What a look at a model means. Pure arithmetic: no SQL."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from evergreen.core.embedding import Vector
from evergreen.core.frozen import frozen
from evergreen.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

#: Consecutive looks that agree before a model whose answers alternated is used again.
SETTLED = 3
#: The vectors of one look, in the order of the texts.
LookVectors = Sequence[Vector]


class Verdict(Enum):
    """What a look shows."""

    FIRST = "there was nothing to compare with: these are the references"
    UNCHANGED = "the revision that is served is the one it was"
    DOUBT = "another model, if the next look agrees"
    CHANGED = "another revision is served from now on"
    ALTERNATES = "two looks in a row were of different models: none of them is used"
    UNSETTLED = "the answers alternated lately: none of the models is used yet"


@frozen
class Known:
    """What is known before a look. ``unconfirmed``: the look before, if it matched nothing that is served."""

    revision: int
    settled: bool
    agreeing: int
    references: Mapping[int, LookVectors]
    unconfirmed: LookVectors | None


@frozen
class Finding:
    """The verdict, the revision that is served by it, the drift from the one that was, and how many looks agreed."""

    verdict: Verdict
    revision: int
    drift: float
    agreeing: int = 0


def drift(some: LookVectors, others: LookVectors) -> float:
    """Return the largest 1 - cosine between the vectors of a text: 0 for the same model, up to 2."""
    if len(some) != len(others):
        return 2.0
    return max(_distance(one, other) for one, other in zip(some, others, strict=True))


def _distance(one: Vector, other: Vector) -> float:
    if len(one) != len(other):
        return 2.0
    left, right = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
    if lengths == 0.0:
        return 0.0 if bool((left == right).all()) else 1.0
    return max(0.0, 1.0 - float(left @ right) / lengths)


def decide(known: Known, seen: LookVectors, limit: float) -> Finding:
    """Return what a look shows; ``limit``: the drift above which it is another model."""
    if not known.references:
        return Finding(Verdict.FIRST, known.revision, 0.0)
    drifts = {revision: drift(seen, vectors) for revision, vectors in known.references.items()}
    from_current = drifts.get(known.revision, 2.0)
    agrees = known.unconfirmed is not None and drift(seen, known.unconfirmed) <= limit
    if not known.settled:
        return _settle(known, drifts, limit, agrees=agrees)
    if known.unconfirmed is not None and not agrees:
        return Finding(Verdict.ALTERNATES, known.revision, from_current, 1)
    if from_current <= limit:
        return Finding(Verdict.UNCHANGED, known.revision, from_current)
    if known.unconfirmed is None:
        return Finding(Verdict.DOUBT, known.revision, from_current)
    return Finding(Verdict.CHANGED, _recognized(drifts, limit), from_current)


def _settle(known: Known, drifts: Mapping[int, float], limit: float, *, agrees: bool) -> Finding:
    agreeing = known.agreeing + 1 if agrees else 1
    from_current = drifts.get(known.revision, 2.0)
    if agreeing < SETTLED:
        return Finding(Verdict.UNSETTLED, known.revision, from_current, agreeing)
    return Finding(Verdict.CHANGED, _recognized(drifts, limit), from_current)


def _recognized(drifts: Mapping[int, float], limit: float) -> int:
    """Return the revision that was seen: a known one, or the next number."""
    nearest = min(drifts, key=lambda revision: drifts[revision])
    return nearest if drifts[nearest] <= limit else max(drifts) + 1
