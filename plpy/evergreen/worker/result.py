"""The result of a claim, up to the transaction that writes it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from evergreen.core.document import Document, Prepared
from evergreen.core.embedding import AnyVector, Usage
from evergreen.core.errors import ModelError
from evergreen.core.job import Claim
from evergreen.core.remote_batch import Awaited
from evergreen.storage.usage import Alone, Saved


class Deferral(NamedTuple):
    """Why a row is released: the seconds until it may be claimed again, and the error; or the batch it waits for."""

    delay: float = 0.0
    error: ModelError | None = None
    batch: Awaited | None = None


@dataclass
class Cost:
    """Usage and savings of a claim; ``alone``: without the pipelines of other owners."""

    spent: Usage = field(default_factory=Usage)
    saved: Saved = field(default_factory=Saved)
    alone: Alone = field(default_factory=Alone)
    charged: bool = False  # the budget's counters are sequences, which a rollback does not undo


@dataclass
class BatchResult:
    """Prepared documents, their vectors and failures, and the state to clear when the claim ends."""

    claim: Claim
    prepared: Prepared
    vectors: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    sent: set[bytes] = field(default_factory=set[bytes])
    deferred: dict[str, Deferral] = field(default_factory=dict[str, Deferral])  # rows to release
    released: set[str] = field(default_factory=set[str])  # rows released before
    owners: dict[bytes, str] = field(default_factory=dict[bytes, str])  # rows of texts in no prepared document
    marked: set[bytes] = field(default_factory=set[bytes])  # texts marked as in flight
    cached: set[bytes] = field(default_factory=set[bytes])  # texts whose vectors are cached until the rows are written
    cost: Cost = field(default_factory=Cost)
    # A job of the claim was taken over, or another session has it locked: keep the lease, see claims.release_jobs.
    lost: bool = False

    def complete(self, document: Document) -> bool:
        """Return whether every text of a document has its vector."""
        return all(text_hash in self.vectors for text_hash, _ in document.chunks)

    def text_owners(self) -> dict[bytes, str]:
        """Return the row of each text, by hash."""
        prepared = {h: document.key for document in self.prepared.documents for h, _ in document.chunks}
        return {**self.owners, **prepared}
