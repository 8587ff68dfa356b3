"""Lanes, jobs and claims."""

from dataclasses import field
from enum import IntEnum

from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline

MAX_KEY_BYTES = 2600  # of a key as jsonb: a B-tree entry holds 2,704 bytes, with the columns around the key

BULK_CHANGES = 1000  # changes of one transaction above which they are a bulk change, see option ``bulk_lane``


class Lane(IntEnum):
    """Lanes of the queue, as ``embed.job.lane`` stores them."""

    LIVE = 0
    BACKFILL = 1

    @property
    def label(self) -> str:
        """The lane's name in logs and answers."""
        return self.name.lower()


@frozen
class Job:
    """A claimed key, as it was when it was claimed."""

    key: str
    lane: Lane
    changes: int
    attempts: int
    changed_at: str
    unserved_since: str | None  # the oldest change that is not searchable yet; None: history
    max_batch: int | None = None  # the most texts that the next request with it may hold
    batch: int | None = None  # the batch it waited for, see embed.job.batch


@frozen
class Claim:
    """Jobs of a generation that are claimed under one token, all of one lane (an external claim may mix lanes)."""

    token: int
    pipeline: Pipeline
    generation: Generation
    lane: Lane
    round: int  # of the cursor over the stored documents, which TRUNCATE restarts
    leased: bool
    at: str = "-infinity"  # when it was claimed, before any source row was read
    lease: float = 0.0  # its duration in seconds when it was claimed
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])

    @property
    def lock(self) -> int:
        """The number of the advisory lock that the claim's worker holds, as in ``embed.is_abandoned``."""
        return self.token & 0x7FFFFFFF


@frozen
class ClaimRequest:
    """What to claim: so many keys of a lane of a generation."""

    pipeline: Pipeline
    generation: Generation
    lane: Lane
    limit: int
