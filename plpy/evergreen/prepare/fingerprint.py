"""Hashes that say what was embedded. Fields are length-prefixed, so that no two inputs give the same bytes."""

import hashlib
import json
from typing import Any


def _digest(*fields: str) -> bytes:
    state = hashlib.sha256()
    for field in fields:
        data = field.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.digest()


def document(identity: str, preparation: str, chunker: dict[str, Any], text: str) -> bytes:
    """Fingerprint of a row (32 bytes): model identity, template or columns, chunker, prepared text."""
    return _digest("document", identity, preparation, json.dumps(chunker, sort_keys=True), text)


def chunk(identity: str, text: str) -> bytes:
    """Hash of one text as a model gets it (32 bytes)."""
    return _digest("chunk", identity, text)
