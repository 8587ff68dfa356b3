"""What came of a claim, from its first text to the transaction that writes it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from evergreen.core.document import Document, Prepared
from evergreen.core.embedding import AnyVector, Usage
from evergreen.core.errors import ModelError
from evergreen.core.job import Claim
from evergreen.storage.usage import Alone, Saved


class Wait(NamedTuple):
    """Why a row is given back: the seconds until it may be claimed again, and the error that it waits for."""

    delay: float = 0.0
    error: ModelError | None = None


@dataclass
class Cost:
    """What a claim cost and saved; ``alone``: the same without the pipelines of other owners."""

    spent: Usage = field(default_factory=Usage)
    saved: Saved = field(default_factory=Saved)
    alone: Alone = field(default_factory=Alone)
    charged: bool = False  # the budget's counters are sequences, which no rollback undoes


@dataclass
class BatchResult:
    """What was prepared, the vectors of its texts, what went wrong, and what else ends with the claim."""

    claim: Claim
    prepared: Prepared
    vectors: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    sent: set[bytes] = field(default_factory=set[bytes])
    waiting: dict[str, Wait] = field(default_factory=dict[str, Wait])  # rows to give back
    released: set[str] = field(default_factory=set[str])  # rows that were given back before
    owners: dict[bytes, str] = field(default_factory=dict[bytes, str])  # row of a text that is in no prepared document
    marked: set[bytes] = field(default_factory=set[bytes])  # texts marked as in flight
    cached: set[bytes] = field(default_factory=set[bytes])  # texts whose vectors are in the cache until all is written
    cost: Cost = field(default_factory=Cost)
    lost: bool = False  # another session had a row of the claim locked: its lease must stay

    def complete(self, document: Document) -> bool:
        """True when every text of a document has its vector."""
        return all(key in self.vectors for key, _ in document.chunks)

    def text_owners(self) -> dict[bytes, str]:
        """Return the row of each text, by hash."""
        prepared = {h: document.key for document in self.prepared.documents for h, _ in document.chunks}
        return {**self.owners, **prepared}
