"""An orthogonal map from one model's vectors to another's, learned from pairs, and how good it is.

Orthogonal Procrustes (Schönemann 1966): with the singular value decomposition ``new.T @ old`` = U S V, the map is UV.
For spaces of different dimensions the thin decomposition is what padding with zeros gives. Without the constraint, by
least squares or ridge regression, a map finds fewer known items. To subtract the means first helps in one direction
(recall 0.84 to 0.86 from a model of words to an LSA) and harms in the other (0.81 to 0.78). Searches by titles found
less in both, with either, and when directions were weighted by their singular values.

Arrays are float32, a vector a row.
"""

from typing import TYPE_CHECKING, Any

from evergreen.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
else:
    np = lazy("numpy")
    Matrix = Any

NEAREST = 10
_BLOCK = 100  # questions compared at a time: scores of all would fill the memory
_SAME = 1e-5  # of a score: rounding in equal vectors


def learn(new: Matrix, old: Matrix) -> Matrix:
    """Return the matrix (new dimensions, old dimensions) by which to multiply new vectors.

    Directions are what is mapped. The result has the mean length of the old vectors, for distances that depend on it.
    """
    left, _, right = np.linalg.svd(_directions(new).T @ _directions(old), full_matrices=False)
    scale = np.linalg.norm(old, axis=1).mean() / np.linalg.norm(new, axis=1).mean()
    return np.ascontiguousarray(scale * (left @ right), dtype=np.float32)


class KnownItems:
    """Known-item recall: the share of questions whose own chunk is among the ten best of all that are added."""

    def __init__(self, questions: Matrix, own: Matrix, distance: str) -> None:
        self._questions, self._distance = questions, distance
        self._own = _paired_scores(questions, own, distance)
        self._better = np.zeros(len(questions), dtype=np.int64)

    def add(self, chunks: Matrix) -> None:
        """Compare with more chunks; the questions' own may be among them, and count once."""
        limit = self._own + _SAME * np.abs(self._own)
        self._better += (_scores(self._questions, chunks, self._distance) > limit[:, None]).sum(axis=1)

    @property
    def recall(self) -> float:
        """From 0 to 1."""
        return float((self._better < NEAREST).mean())


def overlap(mapped: Matrix, new: tuple[Matrix, str], old: tuple[Matrix, str], questions: int) -> float | None:
    """Return how much a map keeps of what two models agree on; None if they agree on nothing.

    ``new``, ``old``: vectors of the same chunks with their distances, of which the first ``questions`` are looked up;
    ``mapped``: those, by the map. Each has its ten nearest others among all chunks by its old vector, its new one, and
    its mapped one: the overlap of the first and the last, divided by that of the first two.
    """
    kept, agreed = 0, 0
    for start in range(0, questions, _BLOCK):
        places = range(start, min(start + _BLOCK, questions))
        block = slice(start, places.stop)
        nearest = _nearest_others(old[0][block], *old, places)
        kept += _in_both(nearest, _nearest_others(mapped[block], *old, places))
        agreed += _in_both(nearest, _nearest_others(new[0][block], *new, places))
    return kept / agreed if agreed else None


def _nearest_others(questions: Matrix, chunks: Matrix, distance: str, places: range) -> "NDArray[np.int64]":
    scores = _scores(questions, chunks, distance)
    scores[np.arange(len(places)), np.array(places)] = -np.inf
    return np.argpartition(-scores, NEAREST, axis=1)[:, :NEAREST]


def _in_both(one: "NDArray[np.int64]", other: "NDArray[np.int64]") -> int:
    return sum(len({*left} & {*right}) for left, right in zip(one.tolist(), other.tolist(), strict=True))


def _scores(questions: Matrix, chunks: Matrix, distance: str) -> Matrix:
    """Return scores of the order that a distance gives, (questions, chunks); higher is nearer."""
    if distance == "cosine":
        return questions @ _directions(chunks).T
    if distance == "l2":
        return 2 * (questions @ chunks.T) - (chunks**2).sum(axis=1)
    return questions @ chunks.T


def _paired_scores(questions: Matrix, chunks: Matrix, distance: str) -> Matrix:
    """Return the scores of each question with its own chunk."""
    chunks = _directions(chunks) if distance == "cosine" else chunks
    inner = (questions * chunks).sum(axis=1)
    return 2 * inner - (chunks**2).sum(axis=1) if distance == "l2" else inner


def _directions(vectors: Matrix) -> Matrix:
    """Return unit vectors; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.float32(1e-30))
