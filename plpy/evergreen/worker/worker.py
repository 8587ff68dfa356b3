"""A worker's pass over its pipelines: each step is one short transaction."""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.capture.wal.service import Reader
from evergreen.catalog import maintenance, options, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.errors import ModelError, UserError
from evergreen.core.job import BACKFILL, LIVE, Claim, ClaimRequest
from evergreen.core.pipeline import Pipeline
from evergreen.db import timeouts
from evergreen.db.privileges import as_extension_owner
from evergreen.embedding.batching import rows_worth_claiming
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.limits import shared
from evergreen.embedding.providers.registry import provider
from evergreen.queue import change_log, claims
from evergreen.queue.backfill import CommittedCursors
from evergreen.queue.scan_start import ScanStarts, SnapshotMark
from evergreen.worker import policies
from evergreen.worker.apply import budget
from evergreen.worker.batch import Batch
from evergreen.worker.batches import POLL_S, Batches
from evergreen.worker.maintenance import run_all
from evergreen.worker.pipeline_backoff import PipelineBackoff
from evergreen.worker.policies import model_step
from evergreen.worker.sleep import WorkerState
from evergreen.worker.throttle import Throttle

T = TypeVar("T")
BATCH = 1000
_MAX_RATE_WAIT_S = 30.0  # seconds for which a rate limit is waited out with the claim in hand
_NO_WAIT = 0.0
_SLOW_SOURCE_BACKOFF_S = 600.0  # a source that takes for ever to be read is left alone
_MIN_READ_TIMEOUT_S = 1.0
_MAINTENANCE_INTERVAL_S = 60.0
_TRUNCATE_INTERVAL_S, _FINISH_TIMEOUT_S = 10.0, 1.0


class Worker:
    """Works on one pipeline, or on all of them in turn; many batches are under way at once."""

    def __init__(self, pipeline: str | None, state: WorkerState) -> None:
        self.saw_more = False  # a claim that was as large as it may be
        self._pipeline = pipeline
        self._state = state
        self._dispatcher = RequestDispatcher(
            shared.SharedLimits(), model_step(self._step), _on_tick, longest_wait=_MAX_RATE_WAIT_S
        )
        self._backoff = PipelineBackoff(self._step, state.backed_off_until)
        self._batches = Batches(self._step, self._dispatcher, self._backoff)
        self._blocked: set[int] = set()  # generations whose model rests
        self._turn = random.randrange(1000)  # noqa: S311 - not for secrets; who is first may be the end of this worker
        self._read_timeout = float("inf")
        state.truncate_at = state.truncate_at or time.monotonic() + _TRUNCATE_INTERVAL_S
        self._cursors = CommittedCursors()
        self._scan_starts = state.scan_starts
        self._throttle = Throttle()
        self._reader = Reader(self._step)
        self._looks = maintenance.Looks(self._step)

    def run_pass(self, deadline: float) -> bool:
        """Make one pass; True when something was done or is under way."""
        if time.monotonic() >= self._state.maintenance_at:
            self._state.maintenance_at = time.monotonic() + _MAINTENANCE_INTERVAL_S
            # An index takes seconds, and leases under way are to be renewed.
            run_all(self._step, is_idle=not self._batches)
        done = self._read_wal()
        self._throttle.begin()
        for number in self._rotated(self._step(self._pipelines)):
            if time.monotonic() > deadline:
                break
            if self._backoff.is_over(number):
                with timeouts.time_limit(self._read_timeout):
                    done = self._backoff.isolate(number, partial(self._claim_and_start, number)) or done
                self._on_timeout(number)
        was_busy = self._dispatcher.busy
        self._batches.collect(_NO_WAIT if done else POLL_S)
        self._throttle.end()
        if time.monotonic() >= self._state.truncate_at:
            self._state.truncate_at = time.monotonic() + _TRUNCATE_INTERVAL_S
            maintenance.run(self._step, [Task("queue", claims.truncate_queue)] if self._is_queue_finished() else [])
        return done or was_busy

    def _read_wal(self, *, at_once: bool = False) -> bool:
        """Take a turn at the WAL; what its reader cannot deal with itself keeps no pipeline waiting."""
        try:
            return self._reader.poll(at_once=at_once)
        except db.DatabaseError as error:
            if maintenance.is_cancelled(error):
                raise
            self._reader.back_off()
            maintenance.record(self._step, Task("reading the WAL", self._reader.poll), maintenance.problem(error))
            return False

    def _is_queue_finished(self) -> bool:
        """Tell whether the queue may be begun anew; what is in hand is finished first, if that is all there is."""
        if (
            self._batches
            and not self._batches.has_unwritten
            and self._step(lambda: claims.is_all_in_hand(self._batches.tokens()))
        ):
            until = time.monotonic() + _FINISH_TIMEOUT_S
            while self._batches and time.monotonic() < until:
                self._batches.collect(POLL_S)
            if self._batches:  # the model takes too long for it to be done often
                self._state.truncate_at = time.monotonic() + _MAINTENANCE_INTERVAL_S
        return not self._batches

    def _on_timeout(self, number: int) -> None:
        """Leave a source alone that took too long; be less patient with the next one, as one owner may have many."""
        if waited := timeouts.take_timeout():
            self._read_timeout = max(_MIN_READ_TIMEOUT_S, waited / 2)
            self._backoff.start(
                number, _SLOW_SOURCE_BACKOFF_S, "reading its source took too long", reason="slow_source"
            )

    def finish(self) -> db.DatabaseError | None:
        """Send nothing more and finish what is under way; return the error where a lock prevented that to the last."""
        return self._batches.finish()

    @property
    def has_unwritten(self) -> bool:
        """True while a lock keeps a batch from being written."""
        return self._batches.has_unwritten

    def close(self) -> None:
        """Give up what is under way; its locks are the caller's to let go."""
        self._batches.close()

    def _rotated(self, numbers: list[int]) -> list[int]:
        """Start with another pipeline each time: where they share an endpoint, the first takes the room there is."""
        self._turn = (self._turn + 1) % max(1, len(numbers))
        return numbers[self._turn :] + numbers[: self._turn]

    def _pipelines(self) -> list[int]:
        """The pipelines as they are now; none when the one that was named has been dropped since."""
        if self._pipeline is None:
            return pipelines.every()
        found = pipelines.find(self._pipeline)
        return [found.id] if found is not None else []

    def anything_left(self) -> bool:
        """True while there is work that this worker could do now or in an instant."""
        return self._read_wal(at_once=True) or self._step(
            lambda: claims.is_anything_left(self._pipelines(), [*self._blocked], unreadable=False)
        )

    def _step(self, body: Callable[[], T]) -> T:
        """Run one step with the extension's rights, in a transaction of its own."""
        try:
            result = as_extension_owner(db.planning.by_index()(body))
            db.commit()
        except (db.DatabaseError, UserError, ModelError):
            db.rollback()
            raise
        return result

    def _claim_and_start(self, number: int) -> bool:
        """Claim and prepare what the pipeline's models have room for; True when anything was claimed."""
        pipeline = self._looks.at(
            number, lambda: _look(number, self._scan_starts), lambda error: policies.retry_delay(error, 0)
        )
        if pipeline is None or self._batches.is_unwritten(number):
            return False
        done = False
        for generation in pipeline.generations:  # one at a time: an error in one must not leave another's claim behind
            model = generation.model
            chosen = provider(model.provider)
            if self._dispatcher.unavailable(chosen, model, budget(pipeline)) is not None:
                self._blocked.add(generation.id)
                continue
            self._blocked.discard(generation.id)
            room = rows_worth_claiming(self._dispatcher.limits(chosen, model), model.endpoint, BATCH)
            for lane in (LIVE, BACKFILL):
                live = max(1, int(room * options.effective(pipeline.options, "live_share")))
                limit = live if lane == LIVE else self._throttle.room(room)
                if self._batches.has_room(generation, lane):
                    claimed = self._claim(ClaimRequest(pipeline, generation, lane, limit))
                    if claimed is not None:
                        self.saw_more = self.saw_more or len(claimed.jobs) >= limit
                        room -= len(claimed.jobs) if len(claimed.jobs) == limit else 0
                        self._record_claim(claimed)
                        self._batches.start(Batch(claimed))
                        done = True
        return done

    def _record_claim(self, claimed: Claim) -> None:
        if claimed.lane == LIVE:
            self._throttle.live()
        else:
            self._throttle.backfilled(len(claimed.jobs))

    def _claim(self, wanted: ClaimRequest) -> Claim | None:
        tokens, starts = self._batches.tokens(), self._scan_starts
        return self._step(lambda: claims.claim(wanted, tokens, self._cursors, leased=True, scan_starts=starts))


def _on_tick() -> None:
    """The first makes cancel work, the second gives up the snapshot that the first took."""
    db.check_interrupts()
    db.commit()


def _look(number: int, scan_starts: ScanStarts) -> Pipeline | None:
    """Return the pipeline with its log folded, or None when there is nothing to do or nothing may be done."""
    scan_start = scan_starts.of("work", number)
    if scan_start.known() is None:
        scan_start.seen = SnapshotMark(0)
        if not scan_start.timed(lambda: claims.may_have_work(number), int, from_start=True):
            return None
    pipeline = pipelines.by_id(number)
    if pipeline is None or pipeline.state != "active":
        return None
    pipeline = ddl_sync.ready(pipeline)
    if pipeline is not None:
        change_log.coalesce(pipeline, scan_starts.of("change", number))
    return pipeline
