"""Vectors to Postgres: text literals, made by orjson from float32 arrays (15 times faster than lists of floats)."""

import orjson

from evergreen.apply.reuse import Known


def literal(vector: Known) -> str:
    """Return pgvector's text for a vector."""
    if isinstance(vector, str):
        return vector
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
