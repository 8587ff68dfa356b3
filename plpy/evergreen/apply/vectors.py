"""Vectors as they come and go: float32 arrays from a model, pgvector's binary form from a table, its text."""

import numpy as np
import orjson

from evergreen.model.provider import Vector

#: A vector as the model gave it, or as pgvector's ``vector_send`` did: two bytes of dimensions, two unused, floats.
Known = Vector | bytes


def literal(vector: Known) -> str:
    """Return pgvector's text for a vector; orjson writes float32 arrays 15 times as fast as lists of floats."""
    if isinstance(vector, bytes):
        vector = np.frombuffer(vector, dtype=">f4", offset=4).astype(np.float32)
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
