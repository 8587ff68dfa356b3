"""Jobs and claims."""

from dataclasses import dataclass, field

from evergreen.core.pipeline import Generation, Pipeline

LIVE, BACKFILL = 0, 1
MAX_KEY_BYTES = 2600  # of a key as jsonb: a B-tree entry holds 2,704 bytes, with the columns around the key


@dataclass(frozen=True)
class Job:
    """A claimed key, as it was when it was claimed."""

    key: str
    lane: int
    changes: int
    attempts: int
    changed_at: str
    unserved_since: str | None  # the oldest change that is not searchable yet; None: history
    max_batch: int | None = None  # the most texts that the next request with it may hold


@dataclass(frozen=True)
class Claim:
    """Keys of a generation under one token; of one lane, but for those that are handed out."""

    token: int
    pipeline: Pipeline
    generation: Generation
    lane: int
    round: int  # of the cursor over the stored documents: TRUNCATE and the like start another
    leased: bool
    at: str = "-infinity"  # when it was made, before anything was read
    lease: float = 0.0  # seconds for which it was good when it was made
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])

    @property
    def lock(self) -> int:
        """The advisory lock that stands for the token, as in ``embed.is_abandoned``."""
        return self.token & 0x7FFFFFFF


@dataclass(frozen=True)
class ClaimRequest:
    """What to claim: so many keys of a lane of a generation."""

    pipeline: Pipeline
    generation: Generation
    lane: int
    limit: int
