"""Provider ``hash``: deterministic unit vectors without meaning, for tests of what stands around a model."""

import hashlib

import numpy as np

from evergreen.model.provider import Answer, Limits
from evergreen.model.request import Request
from evergreen.model.spec import Model


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
