"""Reciprocal rank fusion: one list of what two or more lists rank."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

# Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
# SIGIR 2009: the constant of the paper, which lessens what the very first places weigh.
CONSTANT = 60

T = TypeVar("T", bound=Hashable)


def fuse(lists: Iterable[Sequence[T]]) -> list[tuple[T, float]]:
    """Return what is in any of the lists, best first, with its score: the sum of 1 / (60 + rank), ranks from 1.

    Of equal ones the one that an earlier list has first comes first.
    """
    scores: defaultdict[T, float] = defaultdict(float)
    for ranked in lists:
        for rank, one in enumerate(ranked, 1):
            scores[one] += 1.0 / (CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
