"""The algorithm of provider ``hash``, for those that have no server around them."""

import hashlib

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 256


def hash_vectors(texts: list[str]) -> NDArray[np.float32]:
    """Return a deterministic unit vector a text."""
    raw = b"".join(hashlib.shake_256(text.encode()).digest(4 * DIMENSIONS) for text in texts)
    vectors = np.frombuffer(raw, dtype="<i4").reshape(len(texts), DIMENSIONS).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
