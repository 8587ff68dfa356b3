"""When a step is committed, and what else depends on who commits."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from evergreen import db
from evergreen.core.embedding import AnyVector
from evergreen.core.errors import ModelError, UserError
from evergreen.core.job import Claim, ClaimRequest
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.step import run_directly
from evergreen.db.privileges import as_extension_owner
from evergreen.db.queries import Query
from evergreen.queue import change_log, claims
from evergreen.queue.backfill import CommittedCursors, InTransactionCursors
from evergreen.queue.scan_start import ScanStarts, SnapshotMark
from evergreen.worker.result import BatchResult
from evergreen.worker.retry import IN_FLIGHT_RETRY_S

T = TypeVar("T")
_UNFLUSHED = Query("commit_unflushed", (), "SELECT pg_catalog.set_config('synchronous_commit', 'off', true)")


class CommitPolicy(Protocol):
    """What depends on who commits: a worker after each step, or the caller of embed_drain or embed_claim.

    ``in_flight_retry``: seconds until rows that wait for a text in flight elsewhere may be claimed again.
    """

    in_flight_retry: float

    def step(self, name: str, body: Callable[[], T], /) -> T:
        """Run a step; tests stop a worker at a step by its name."""
        ...

    def on_tick(self) -> None:
        """Let a cancel through while a model works."""
        ...

    def may_have_work(self, pipeline_id: int) -> bool:
        """Return whether to look at a pipeline at all."""
        ...

    def accepts(self, pipeline: Pipeline) -> bool:
        """Return whether to work on a pipeline."""
        ...

    def coalesce(self, pipeline: Pipeline, rows: int) -> None:
        """Coalesce the pipeline's change log; ``rows``: as many as are needed now."""
        ...

    def claim(self, wanted: ClaimRequest, own_tokens: list[int]) -> Claim | None:
        """Claim keys; None if there are none."""
        ...

    def receive(self, result: BatchResult) -> None:
        """Take note of the vectors that a batch received."""
        ...

    def received(self, generation: Generation) -> dict[bytes, AnyVector]:
        """Return the vectors of a generation's model that were received and are not written yet."""
        ...


class CommitEachStep:
    """The policy of embed_work: each step is a transaction of its own, with the extension's rights."""

    in_flight_retry = IN_FLIGHT_RETRY_S
    # Their commits need no flush of the WAL: a crash that undoes one ends its claim and its calls, too, and as the WAL
    # is in order, no later commit survives without it. Not so the steps that finish jobs or save answers.
    # Where a flush takes 2.3 ms, and claims have 50 rows: 1.03 instead of 1.26 ms a row.
    _UNFLUSHED = frozenset({"claim", "start"})

    def __init__(self, scan_starts: ScanStarts) -> None:
        self._scan_starts = scan_starts
        self._cursors = CommittedCursors()

    def step(self, name: str, body: Callable[[], T], /) -> T:
        """Run and commit a step."""
        try:
            if name in self._UNFLUSHED:
                db.run(_UNFLUSHED)
            result = as_extension_owner(db.planning.prefer_indexes()(body))
            db.commit()
        except (db.DatabaseError, UserError, ModelError):
            db.rollback()
            raise
        return result

    def on_tick(self) -> None:
        """Let a cancel through, then release the snapshot that this took."""
        db.check_interrupts()
        db.commit()

    def may_have_work(self, pipeline_id: int) -> bool:
        """Return whether a pipeline may have work; assumed while checking is expensive."""
        scan_start = self._scan_starts.of("work", pipeline_id)
        if scan_start.known() is not None:
            return True
        scan_start.seen = SnapshotMark(0)  # no mark, only the time of the next check matters
        return scan_start.timed(lambda: claims.may_have_work(pipeline_id), int, from_start=True)

    def accepts(self, pipeline: Pipeline) -> bool:
        """Return whether the pipeline is active."""
        return pipeline.state == "active"

    def coalesce(self, pipeline: Pipeline, rows: int) -> None:  # noqa: ARG002 - all that is committed is coalesced
        """Coalesce the log under its lock, from the scan start."""
        change_log.coalesce(pipeline, self._scan_starts.of("change", pipeline.id))

    def claim(self, wanted: ClaimRequest, own_tokens: list[int]) -> Claim | None:
        """Claim with a lease and an advisory lock of this session, so that others see when the worker is gone."""
        return claims.claim(wanted, own_tokens, self._cursors, leased=True, scan_starts=self._scan_starts)

    def receive(self, result: BatchResult) -> None:
        """Do nothing: a batch is written when it has its answers."""

    def received(self, generation: Generation) -> dict[bytes, AnyVector]:  # noqa: ARG002 - as ``receive``
        """Return nothing."""
        return {}


class InCallersTransaction:
    """The policy of embed_drain and embed_claim: a long transaction must lock nothing that workers share."""

    in_flight_retry = 0.0  # the transaction has waited for them already

    def __init__(self) -> None:
        self.cursors = InTransactionCursors()
        self._received: dict[int, dict[bytes, AnyVector]] = {}  # by model

    def step(self, name: str, body: Callable[[], T], /) -> T:
        """Run a step in the caller's transaction."""
        return run_directly(name, body)

    def on_tick(self) -> None:
        """Let a cancel through."""
        db.check_interrupts()

    def may_have_work(self, pipeline_id: int) -> bool:  # noqa: ARG002 - a call looks once
        """Return True: one call does not have to save a look."""
        return True

    def accepts(self, pipeline: Pipeline) -> bool:
        """Return whether the pipeline is active."""
        return pipeline.state == "active"

    def coalesce(self, pipeline: Pipeline, rows: int) -> None:
        """Coalesce log rows for at least so many keys, without a lock that others wait for."""
        change_log.coalesce_in_transaction(pipeline, rows)

    def claim(self, wanted: ClaimRequest, own_tokens: list[int]) -> Claim | None:
        """Claim keys, and remember them and where the cursors were before."""
        self.cursors.begin(wanted.generation.id)
        claim = self.take(wanted, own_tokens)
        if claim is not None:
            self.cursors.note(claim)
        return claim

    def take(self, wanted: ClaimRequest, own_tokens: list[int]) -> Claim | None:
        """Claim with row locks, which last as long as the transaction."""
        return claims.claim(wanted, own_tokens, self.cursors, leased=False)

    def receive(self, result: BatchResult) -> None:
        """Keep the vectors for later batches, because all batches are written at the end."""
        self.received(result.claim.generation).update({key: result.vectors[key] for key in result.sent})

    def received(self, generation: Generation) -> dict[bytes, AnyVector]:
        """Return the vectors received from a generation's model."""
        return self._received.setdefault(generation.model.id, {})

    def atomically(self, body: Callable[[], T]) -> T:
        """Run body in a subtransaction; after an error the cursors go back, as the claims are undone."""
        savepoint = self.cursors.savepoint()
        try:
            return db.atomically(body)
        except db.DatabaseError:
            self.cursors.go_back(savepoint)
            raise
