"""Hashes that say what was embedded. Fields are length-prefixed, so that no two inputs give the same bytes."""

import hashlib
import json
from typing import Any


class Hasher:
    """SHA-256 over some fields that stay the same and a text that does not; 32 bytes."""

    def __init__(self, *fields: str) -> None:
        self._start = hashlib.sha256()
        for field in fields:
            self._start.update(_prefixed(field))

    def __call__(self, *texts: str) -> bytes:
        """Hash the fields and the text, or the texts that belong together."""
        state = self._start.copy()
        for text in texts:
            state.update(_prefixed(text))
        return state.digest()


def _prefixed(field: str) -> bytes:
    data = field.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "big") + data


def document(identity: str, preparation: str, chunker: dict[str, Any]) -> Hasher:
    """Fingerprint of a row's prepared text, with model identity, template or columns, and chunker."""
    return Hasher("document", identity, preparation, json.dumps(chunker, sort_keys=True))


def chunk(identity: str, *, may_be_cut: bool = False) -> Hasher:
    """Hash of one text as a model gets it; a vector of what may be only its beginning is another's than that of all."""
    return Hasher("beginning of chunk" if may_be_cut else "chunk", identity)
