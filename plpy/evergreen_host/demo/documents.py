"""What the demo's collections of documents have in common."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text: `name` identifies it, title and body are what is embedded."""

    name: str
    title: str
    body: str


def sample(documents: Collection[Document], rows: int, always: Collection[str]) -> list[Document]:
    """Return the same `rows` documents on every machine: those named in `always`, then by the hash of the name."""

    def rank(document: Document) -> tuple[bool, str]:
        return (document.name not in always, hashlib.sha256(document.name.encode()).hexdigest())

    return sorted(documents, key=rank)[:rows]
