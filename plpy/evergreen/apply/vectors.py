"""Vectors as they come and go: float32 arrays from a model, pgvector's binary form from a table, its text."""

import numpy as np
import orjson

from evergreen.model.provider import Vector

#: A vector as the model gave it, or as pgvector's ``vector_send`` did: two bytes of dimensions, two unused, floats.
Known = Vector | bytes


def literal(vector: Known) -> str:
    """Return pgvector's text for a vector; orjson writes float32 arrays 15 times as fast as lists of floats."""
    return orjson.dumps(floats(vector), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def floats(vector: Known) -> Vector:
    """Return the numbers of a vector."""
    return np.frombuffer(vector, dtype=">f4", offset=4).astype(np.float32) if isinstance(vector, bytes) else vector


def is_zero(text: str) -> bool:
    """True for pgvector's text of a vector of zeros: a question without any meaning to its model finds nothing."""
    return not any(digit in text for digit in "123456789")
