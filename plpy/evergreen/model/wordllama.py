"""Provider ``wordllama``: the built-in model, semantic vectors in this process, offline.

WordLlama (https://github.com/dleemiller/WordLlama) averages token embeddings taken from large language models; its PyPI
package carries the 256-dimensional weights, of which the first 128 or 64 dimensions are vectors too (Matryoshka).
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evergreen.errors import UserError
from evergreen.isolation import own_packages
from evergreen.model.provider import Answer, Limits
from evergreen.model.request import Request
from evergreen.model.spec import Model

DIMENSIONS = (256, 128, 64)


@cache
def _loaded(dimensions: int) -> Any:
    with own_packages():
        import wordllama  # noqa: PLC0415 - 0.3 s that only those pay who use it

        folder = Path(wordllama.__file__).parent
        # Its default look-up misses the tokenizer in the package and would download one.
        return wordllama.WordLlama.load(cache_dir=folder, disable_download=True, trunc_dim=dimensions)


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
        return Limits(inputs=int(model.options.get("inputs", 128)), in_flight=2)

    def embed(self, model: Model, request: Request) -> Answer:
        """Average the token vectors of every text; a text of no known token has the zero vector."""
        with np.errstate(invalid="ignore"):
            vectors = _loaded(model.dimensions).embed(request.texts, norm=True, batch_size=64)
        return Answer(list(np.nan_to_num(np.asarray(vectors, dtype=np.float32))))
