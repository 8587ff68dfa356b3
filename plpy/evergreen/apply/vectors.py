"""Vectors to Postgres: text literals, made by orjson from float32 arrays (15 times faster than lists of floats)."""

import orjson

from evergreen.model.provider import Vector

#: A vector as the model gave it, or as pgvector's text.
Known = Vector | str


def literal(vector: Known) -> str:
    """Return pgvector's text for a vector."""
    if isinstance(vector, str):
        return vector
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
