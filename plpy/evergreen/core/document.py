"""Documents and chunks, prepared and stored."""

from dataclasses import dataclass, field

from evergreen.core.embedding import AnyVector
from evergreen.core.errors import ModelError
from evergreen.core.job import Claim


@dataclass(frozen=True)
class Document:
    """A row that is to be embedded: its chunks in order, as (hash, text)."""

    key: str
    src_hash: bytes
    fingerprint: bytes
    chunks: tuple[tuple[bytes, str], ...]


@dataclass(frozen=True)
class StoredDocument:
    """What is embedded of a key now."""

    id: int
    fingerprint: bytes
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


@dataclass
class BatchResult:
    """What came of a claim: what was prepared, the vectors of its texts, and what went wrong."""

    claim: Claim
    prepared: Prepared
    vectors: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    sent: set[bytes] = field(default_factory=set[bytes])
    postponed: set[str] = field(default_factory=set[str])  # keys given back, because a text is in flight elsewhere
    owners: dict[bytes, str] = field(default_factory=dict[bytes, str])  # whose a text is, beside those prepared
    lost: bool = False  # some job was locked by somebody else when it was to be finished

    def complete(self, document: Document) -> bool:
        """True when every text of a document has its vector."""
        return all(key in self.vectors for key, _ in document.chunks)
