"""What an answer means for the texts that were sent."""

from dataclasses import dataclass, field

import numpy as np

from evergreen.errors import ConfigurationError, ModelError, OddVectorError, SuspectError, doubtful
from evergreen.model.provider import Answer, Vector
from evergreen.model.spec import Model

# Of the sum of squares: the smallest normal float32, and what leaves room for the sum of two vectors.
_LEAST_SQUARE, _MOST_SQUARE = 1.2e-38, 8e37


@dataclass(frozen=True)
class Verdict:
    """The good vectors, and what is wrong with the others, by place in the request."""

    good: dict[int, Vector] = field(default_factory=dict[int, Vector])
    bad: dict[int, ModelError] = field(default_factory=dict[int, ModelError])


def judge(model: Model, answer: Answer, count: int, *, zeros: bool = False) -> Verdict:
    """Look at each vector; raises the ModelError that concerns the request as a whole. ``zeros``: see ``flaw``."""
    vectors = answer.vectors
    if len(vectors) != count:
        raise SuspectError(f"model {model.name}: {count} texts gave {len(vectors)} vectors")
    sizes = {vector.size for vector in vectors}
    if len(sizes) == 1 and not sizes & {model.dimensions, 0}:
        raise doubtful(ConfigurationError(_wrong_size(model, sizes.pop())))
    verdict = Verdict()
    for place, vector in enumerate(vectors):
        wrong = _wrong(model, vector, zeros=zeros)
        if wrong is None:
            verdict.good[place] = vector
        else:
            verdict.bad[place] = OddVectorError(wrong)
    return verdict


def _wrong(model: Model, vector: Vector, *, zeros: bool) -> str | None:
    if vector.size == 0:
        return f"model {model.name} gave no vector for a text"
    if vector.shape != (model.dimensions,):
        return _wrong_size(model, vector.size)
    found = flaw(vector, zeros=zeros)
    return f"model {model.name} gave {found} for a text" if found is not None else None


def flaw(vector: Vector, *, zeros: bool = False) -> str | None:
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


def _wrong_size(model: Model, size: int) -> str:
    asked = ", which was asked for and ignored by the server" if model.options.get("send_dimensions") else ""
    return (
        f"model {model.name} is registered with {model.dimensions} dimensions{asked}; it answered with {size}:"
        f" add it with embed_model_add(…, {size}) under another name"
    )
