"""Providers in this process: ``wordllama``, the built-in model, and ``hash``, for tests."""

import hashlib
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen.core.embedding import Answer, Limits, Request
from evergreen.core.errors import UserError
from evergreen.core.isolation import own_packages
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import Model
from evergreen.embedding.providers.token_pooling import TokenPooling

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

DIMENSIONS = (256, 128, 64)
_CLAIM = 1000  # rows: a tenth of a second of work
_loaded_at: dict[int, float] = {}  # by dimensions: seconds since 1970


@cache
def _loaded(dimensions: int) -> TokenPooling:
    _loaded_at[dimensions] = time.time()
    with own_packages():
        import wordllama  # noqa: PLC0415 - 0.3 s that only those pay who use it

        folder = Path(wordllama.__file__).parent
        # Its default look-up misses the tokenizer in the package and would download one.
        return TokenPooling(wordllama.WordLlama.load(cache_dir=folder, disable_download=True, trunc_dim=dimensions))


def loaded_at(model: Model) -> float | None:
    """Return when this session loaded the package of a model, in seconds since 1970; None if it did not."""
    return _loaded_at.get(model.dimensions) if model.provider == "wordllama" else None


class WordLlama:
    """The vectors of the package's own weights."""

    free = True
    sql = False
    zeros = True

    def check(self, model: Model) -> None:
        """Only the packaged sizes are there."""
        if model.dimensions not in DIMENSIONS:
            raise UserError(
                f"provider wordllama has 256, 128 or 64 dimensions, not {model.dimensions}",
                hint="Built in are wordllama-256, wordllama-128 and wordllama-64.",
            )

    def limits(self, model: Model) -> Limits:
        """Small requests, so that a cancel does not wait long; two at a time, as the tokenizer leaves Python free."""
        return Limits(inputs=int(model.options.get("inputs", 128)), in_flight=2, claim=_CLAIM)

    def embed(self, model: Model, request: Request) -> Answer:
        """Average the token vectors of every text; a text of no known token has the zero vector."""
        return Answer(list(_loaded(model.dimensions).embed(request.texts)))


class Hash:
    """Vectors from SHAKE-256 of the text: equal texts are equal, others all but orthogonal."""

    free = True
    sql = False
    zeros = False

    def check(self, model: Model) -> None:
        """Any number of dimensions will do."""

    def limits(self, model: Model) -> Limits:
        """One request of 1,000 texts takes some 10 ms."""
        return Limits(inputs=int(model.options.get("inputs", 1000)))

    def embed(self, model: Model, request: Request) -> Answer:
        """Hash every text."""
        size = 4 * model.dimensions
        raw = b"".join(hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(size) for text in request.texts)
        vectors = np.frombuffer(raw, dtype="<i4").reshape(len(request.texts), model.dimensions).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Answer(list(vectors))
