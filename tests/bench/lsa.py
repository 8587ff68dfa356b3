"""A model unrelated to the built-in one: latent semantic analysis of words, as Deerwester et al. (1990)."""

import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_FEATURES = 8192  # words, by their hash
_MORE = 36  # dimensions of the random projection beyond those that are kept
_ROUNDS = 3


class LSA:
    """Trained on texts; embeds those and others."""

    def __init__(self, texts: Sequence[str], dimensions: int) -> None:
        counts = _counts(texts)
        self._weights = np.log(len(texts) / (1 + (counts > 0).sum(axis=0))).astype(np.float32)
        weighted = _unit(counts * self._weights)
        chance = np.random.default_rng(0).standard_normal((_FEATURES, dimensions + _MORE))
        found = weighted @ chance.astype(np.float32)
        for _ in range(_ROUNDS):  # randomized SVD, by power iteration
            found = np.linalg.qr(weighted @ (weighted.T @ found))[0]
        self._directions = np.linalg.svd(found.T @ weighted, full_matrices=False)[2][:dimensions].T

    def __call__(self, texts: Sequence[str]) -> Array:
        """Return unit vectors, one a row; zeros for a text without a known word."""
        return _unit(_unit(_counts(texts) * self._weights) @ self._directions)


def _counts(texts: Sequence[str]) -> Array:
    found = np.zeros((len(texts), _FEATURES), dtype=np.float32)
    for row, text in zip(found, texts, strict=True):
        for word, count in Counter(re.findall(r"[a-z]{3,}", text.lower())).items():
            row[zlib.crc32(word.encode()) % _FEATURES] += 1 + np.log(count)
    return found


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return vectors / np.maximum(lengths, np.float32(1e-30))
