"""Whether a vector can be used: its size, and whether distances to it can be computed."""

from typing import TYPE_CHECKING

from evergreen.core.embedding import Vector, Vectors
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import Model

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

# Of the sum of squares: the smallest normal float32, and what leaves room for the sum of two vectors.
_LEAST_SQUARE, _MOST_SQUARE = 1.2e-38, 8e37


def are_usable(vectors: Vectors) -> bool:
    """Return whether ``vector_problem`` finds none, without zeros, in vectors of one size: a tenth of its time each."""
    if any(vector.ndim != 1 for vector in vectors):
        return False
    with np.errstate(all="ignore"):
        whole = np.stack(vectors)
        squares = np.einsum("ij,ij->i", whole, whole)
    return bool(((squares >= _LEAST_SQUARE) & (squares <= _MOST_SQUARE)).all())


def wrong_vector(model: Model, vector: Vector, *, zeros: bool) -> str | None:
    """Say why a vector cannot be one of a model; None where it can. ``zeros``: see ``vector_problem``."""
    if vector.size == 0:
        return f"model {model.name} gave no vector for a text"
    if vector.shape != (model.dimensions,):
        return wrong_size(model, vector.size)
    found = vector_problem(vector, zeros=zeros)
    return f"model {model.name} gave {found} for a text" if found is not None else None


def vector_problem(vector: Vector, *, zeros: bool = False) -> str | None:
    """Say why no distance to a vector can be computed; None where it can. ``zeros``: a vector of zeros is an answer.

    pgvector sums squares in float32: where that overflows or vanishes, the cosine of two vectors is NaN.
    """
    with np.errstate(all="ignore"):
        square = float(np.dot(vector, vector))
    if _LEAST_SQUARE <= square <= _MOST_SQUARE:
        return None
    if not np.isfinite(vector).all():
        return "NaN or infinity"
    if not vector.any():
        return None if zeros else "a vector of zeros"
    return "a vector whose length is out of range"


def wrong_size(model: Model, size: int) -> str:
    """Say that a model answers with another number of dimensions, and what to do."""
    asked = ", which was asked for and ignored by the server" if model.options.get("send_dimensions") else ""
    return (
        f"model {model.name} is registered with {model.dimensions} dimensions{asked}; it answered with {size}:"
        f" add it with embed_model_add(…, {size}) under another name"
    )
