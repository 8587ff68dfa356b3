"""One pass of a worker over its pipelines; each step is one short transaction."""

import random
import time
from functools import partial

from evergreen import db
from evergreen.capture.wal.service import WalPoller
from evergreen.catalog import maintenance, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.job import Claim, ClaimRequest, Lane
from evergreen.db import timeouts
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.embedding.watch import packaged
from evergreen.queue import claims
from evergreen.worker import retry
from evergreen.worker.batch_lane import BatchLane
from evergreen.worker.batches import POLL_S, Batches
from evergreen.worker.commit_policy import CommitEachStep
from evergreen.worker.engine import Engine
from evergreen.worker.lateness import Lateness
from evergreen.worker.maintenance import run_all
from evergreen.worker.model_watch import ModelWatch
from evergreen.worker.pipeline_backoff import PipelineBackoff
from evergreen.worker.sleep import WorkerState
from evergreen.worker.throttle import Throttle

_MAX_RATE_WAIT_S = 30.0  # longest wait for a rate limit while holding the claim
_NO_WAIT = 0.0
_SLOW_SOURCE_BACKOFF_S = 600.0  # backoff of a source that takes too long to read
_MIN_READ_TIMEOUT_S = 1.0
_MAINTENANCE_INTERVAL_S = 60.0
_TRUNCATE_INTERVAL_S, _FINISH_TIMEOUT_S = 10.0, 1.0
_SUSPICION_INTERVAL_S, _OTHERS_FIRST_S = 1.0, 10.0


class Worker:
    """Processes one pipeline, or all of them in turn, with many batches under way at once."""

    def __init__(self, pipeline: str | None, state: WorkerState) -> None:
        self.saw_more = False  # a claim reached its size limit, so there may be more
        self.outdated: str | None = None  # why only a new session can embed some rows
        self._pipeline = pipeline
        self._state = state
        policy = CommitEachStep(state.scan_starts)
        self._step = policy.step
        self._engine = Engine(policy, longest_wait=_MAX_RATE_WAIT_S, spools=True)
        self._backoff = PipelineBackoff(self._step, state.backed_off_until)
        self._batches = Batches(self._engine, policy, self._backoff)
        self._watch = ModelWatch(self._engine.dispatcher, self._step, state)
        self._engine.on_other = self._watch.receive
        self._lateness = Lateness(self._step, state)
        self._lane = BatchLane(self._engine.dispatcher, self._step, state)
        self._unavailable: set[int] = set()  # generations whose model is unavailable
        self._turn = random.randrange(1000)  # noqa: S311 - not for secrets; the first pipeline may crash this worker
        self._read_timeout = float("inf")
        state.truncate_at = state.truncate_at or time.monotonic() + _TRUNCATE_INTERVAL_S
        self._suspicion_at = 0.0
        self._throttle = Throttle()
        self._wal_poller = WalPoller(self._step)
        self._source_checks = maintenance.SourceChecks(self._step)

    def is_over(self, deadline: float) -> bool:
        """Return whether time is up, and no call for a batch is under way, beside which the worker goes on."""
        if time.monotonic() < deadline:
            return False
        self._lane.end()
        return not self._lane.awaits_call

    def run_pass(self, deadline: float) -> bool:
        """Make one pass; return whether anything was done or is under way."""
        if time.monotonic() >= self._state.maintenance_at:
            self._state.maintenance_at = time.monotonic() + _MAINTENANCE_INTERVAL_S
            # Building an index takes seconds, during which no lease is renewed.
            run_all(self._step, is_idle=not self._batches and not self._lane.busy)
        self._watch.run()
        self._lateness.run()
        done = self._read_wal()
        self._throttle.begin()
        pipeline_ids = self._rotated(self._step("pipelines", self._pipelines))
        done = self._lane.run(pipeline_ids, orphans=self._pipeline is None) or done
        suspects = self._suspects(pipeline_ids)
        for pipeline_id in sorted(pipeline_ids, key=suspects.__contains__):
            if pipeline_id in suspects:
                self._finish_in_hand(min(deadline, time.monotonic() + _OTHERS_FIRST_S))
            if time.monotonic() > deadline and not self._lane.busy:
                break
            if self._backoff.is_over(pipeline_id):
                with timeouts.time_limit(self._read_timeout):
                    done = self._backoff.isolate(pipeline_id, partial(self._claim_and_start, pipeline_id)) or done
                self._on_timeout(pipeline_id)
        was_busy = self._engine.dispatcher.busy
        self._batches.collect(_NO_WAIT if done else POLL_S)
        if self._lane.busy and not done and not was_busy:
            self._lane.wait()
        self._throttle.end()
        if time.monotonic() >= self._state.truncate_at:
            self._state.truncate_at = time.monotonic() + _TRUNCATE_INTERVAL_S
            maintenance.run(self._step, [Task("queue", claims.truncate_queue)] if self._is_queue_finished() else [])
        return done or was_busy or self._lane.busy

    def _suspects(self, pipeline_ids: list[int]) -> set[int]:
        """Return the pipelines that some session worked on when it ended, perhaps because of an owner's code.

        What is in hand when their rows are read would be lost with this session: it is finished first.
        """
        if len(pipeline_ids) < 2 or time.monotonic() < self._suspicion_at:  # noqa: PLR2004
            return set()
        self._suspicion_at = time.monotonic() + _SUSPICION_INTERVAL_S
        return self._step("abandoned claims", lambda: claims.with_abandoned(pipeline_ids, self._engine.tokens()))

    def _finish_in_hand(self, until: float) -> None:
        while self._batches and not self._batches.has_unwritten and time.monotonic() < until:
            self._batches.collect(POLL_S)

    def _read_wal(self, *, at_once: bool = False) -> bool:
        """Read the WAL once; an error there backs off the reader, not the pipelines."""
        try:
            return self._wal_poller.poll(at_once=at_once)
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            self._wal_poller.back_off()
            maintenance.record(self._step, Task("reading the WAL", self._wal_poller.poll), maintenance.problem(error))
            return False

    def _is_queue_finished(self) -> bool:
        """Return whether the queue may be truncated; first finish the batches in hand if no other jobs are left."""
        if (
            self._batches
            and not self._batches.has_unwritten
            and self._step("all in hand", lambda: claims.has_only_own_jobs(self._engine.tokens()))
        ):
            self._finish_in_hand(time.monotonic() + _FINISH_TIMEOUT_S)
            if self._batches:  # the model is too slow to do this often
                self._state.truncate_at = time.monotonic() + _MAINTENANCE_INTERVAL_S
        return not self._batches

    def _on_timeout(self, pipeline_id: int) -> None:
        """Back off a source that was read too slowly, and halve the timeout, because one owner may have many."""
        if waited := timeouts.take_timeout():
            self._read_timeout = max(_MIN_READ_TIMEOUT_S, waited / 2)
            self._backoff.start(
                pipeline_id, _SLOW_SOURCE_BACKOFF_S, "reading its source took too long", reason="slow_source"
            )

    def finish(self) -> db.DatabaseError | None:
        """Send nothing more and finish what is under way; return the error if a lock prevented that to the end."""
        locked = self._batches.finish()
        self._watch.finish()
        self._lateness.finish()
        self._lane.finish()
        return locked

    @property
    def has_unwritten(self) -> bool:
        """Whether a lock keeps a batch from being written."""
        return self._batches.has_unwritten

    def close(self) -> None:
        """Abandon all batches; the caller releases their locks."""
        self._lane.close()
        self._batches.close()

    def _rotated(self, pipeline_ids: list[int]) -> list[int]:
        """Start with another pipeline each time: of those that share an endpoint, the first takes all its capacity."""
        self._turn = (self._turn + 1) % max(1, len(pipeline_ids))
        return pipeline_ids[self._turn :] + pipeline_ids[: self._turn]

    def _pipelines(self) -> list[int]:
        """Return the current pipelines; none if the named one was dropped."""
        if self._pipeline is None:
            return pipelines.every()
        found = pipelines.find(self._pipeline)
        return [found.id] if found is not None else []

    def anything_left(self) -> bool:
        """Return whether this worker has work that is ready, or will be in a moment."""
        return self._read_wal(at_once=True) or self._step(
            "anything left", lambda: claims.is_anything_left(self._pipelines(), [*self._unavailable], unreadable=False)
        )

    def _claim_and_start(self, pipeline_id: int) -> bool:
        """Claim and prepare as much as the pipeline's models can take; return whether anything was claimed."""
        pipeline = self._source_checks.run(
            pipeline_id, lambda: self._engine.look(pipeline_id), lambda error: retry.retry_delay(error, 0)
        )
        if pipeline is None or self._batches.is_unwritten(pipeline_id):
            return False
        done = False
        for generation in pipeline.generations:  # one at a time: an error in one leaves no claim of another behind
            permit = self._engine.unavailable(pipeline, generation)
            if permit is not None:
                self._unavailable.add(generation.id)
                if permit.scope == packaged.SESSION:
                    self.outdated = permit.reason
                continue
            self._unavailable.discard(generation.id)
            room = self._engine.room(generation)
            for lane, most in claims.lanes(pipeline, room)[:2]:
                limit = most if lane == Lane.LIVE else self._throttle.room(min(most, room))
                if self._batches.has_room(generation, lane):
                    batch = self._engine.claim(ClaimRequest(pipeline, generation, lane, limit))
                    if batch is not None:
                        rows = len(batch.claim.jobs)
                        self.saw_more = self.saw_more or rows >= limit
                        room -= rows if rows == limit else 0
                        self._record_claim(batch.claim)
                        self._batches.start(batch)
                        done = True
        return done

    def _record_claim(self, claimed: Claim) -> None:
        if claimed.lane == Lane.LIVE:
            self._throttle.record_live_claim()
        else:
            self._throttle.record_backfill(len(claimed.jobs))
