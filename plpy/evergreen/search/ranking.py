"""How well chunks match a question: by its words, and by its words and the vectors together. No SQL.

Words weigh by how few chunks have them (IDF), and counts in a chunk by BM25 (Robertson and Zaragoza, 2009). Fusion is a
convex combination of normalized scores (Bruch, Gai, Ingber, arXiv 2210.11934). In it words weigh the more, the more of
the question's weight the best chunk has: a title or a quoted sentence is found by its words, a question in other words
than the text's by the vectors. ``tests/bench/test_known_items.py`` measured this against reciprocal rank fusion.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from evergreen.core.frozen import frozen

# BM25, with the usual constants.
_SATURATION, _LENGTH = 1.2, 0.75
_AVERAGE_LENGTH = 800  # characters of a chunk to which its length is compared; the score depends on no other chunk
# Share of the vectors in a hybrid score; of it, what is given up where a chunk has all words; and how fast that falls.
_VECTOR_SHARE, _GIVEN_UP, _STEEPNESS = 0.6, 0.6, 4


@frozen
class Match:
    """What a chunk has of a question's words. ``coverage``: the share of their weight; ``score``: from 0 to 1."""

    coverage: float = 0.0
    score: float = 0.0


@frozen
class Vocabulary:
    """The words of a question that are in the texts, and their weights."""

    weights: dict[str, float]
    total: float = field(default=0.0)

    def match(self, counts: Mapping[str, int], length: int) -> Match:
        """Judge a chunk of ``length`` characters by how often it has each word."""
        if not self.total:
            return Match()
        norm = _SATURATION * (1 - _LENGTH + _LENGTH * length / _AVERAGE_LENGTH)
        coverage = score = 0.0
        for word, count in counts.items():
            weight = self.weights.get(word, 0.0)
            if count and weight:
                coverage += weight
                score += weight * count / (count + norm)
        return Match(coverage / self.total, score / self.total)


def vocabulary(counts: Mapping[str, int], chunks: int, most: int) -> Vocabulary:
    """Weigh words by the number of chunks that have them, counted up to ``most``; beyond it is not known by how much.

    A word that no chunk has says nothing about any.
    """
    weights = {
        word: math.log(1 + chunks / (count if count <= most else min(4 * most, max(chunks, most))))
        for word, count in counts.items()
        if count
    }
    return Vocabulary(weights, sum(weights.values()))


class Counter:
    """Counts words in texts without a dictionary: forms of a word begin with its lexeme, or nearly so."""

    def __init__(self, words: Sequence[str]) -> None:
        self._patterns = {word: re.compile(rf"(?<!\w){re.escape(_stem(word))}") for word in words}

    def counts(self, text: str) -> dict[str, int]:
        """Return how often each word is in a text, about."""
        lowered = text.lower()
        found: dict[str, int] = {}
        for word, pattern in self._patterns.items():
            found[word] = len(pattern.findall(lowered)) if _stem(word) in lowered else 0
        return found


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == "i" else word  # noqa: PLR2004 - happi: happy, happiness


def similarity(distance: str, score: float | None, best: float) -> float:
    """Return a vector's score as a share: 1 for the same direction, 0 for nothing in common, or no direction."""
    if score is None or math.isnan(score):
        return 0.0
    if distance == "l2":
        return 1 / (1 + score * score)
    if distance == "ip":
        score /= max(best, 1.0)
    return min(max(score, 0.0), 1.0)


def fuse(vectors: Sequence[float], matches: Sequence[Match]) -> list[float]:
    """Return the hybrid score, from 0 to 1, of each chunk from its similarity and its match."""
    reached = max((match.coverage for match in matches), default=0.0) ** _STEEPNESS
    best = max((match.score for match in matches), default=0.0) or 1.0
    share = _VECTOR_SHARE * (1 - _GIVEN_UP * reached) if any(vectors) else 0.0
    return [
        share * vector + (1 - share) * (match.coverage**_STEEPNESS + reached * match.score / best) / 2
        for vector, match in zip(vectors, matches, strict=True)
    ]
