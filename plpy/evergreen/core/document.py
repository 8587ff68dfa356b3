"""Documents and chunks, prepared and stored."""

from dataclasses import dataclass, field

from evergreen.core.errors import ModelError
from evergreen.core.frozen import frozen


@frozen
class Document:
    """A row to embed: its chunks in order, as (hash, text)."""

    key: str
    src_hash: bytes
    fingerprint: bytes
    chunks: tuple[tuple[bytes, str], ...]


@frozen
class StoredDocument:
    """What is embedded of a key now."""

    src_hash: bytes
    chunks: int


@dataclass
class Prepared:
    """What must be done for the keys of a claim."""

    stored: dict[str, StoredDocument] = field(default_factory=dict[str, StoredDocument])
    fresh: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    documents: list[Document] = field(default_factory=list[Document])
    failures: dict[str, ModelError] = field(default_factory=dict[str, ModelError])
    unread: list[str] = field(default_factory=list[str])
    unchanged: int = 0  # chunks of fresh rows: texts that need not even be looked up
