"""A worker's pass over its pipelines: each step is one short transaction."""

import random
import time
from collections import Counter
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
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log, timeouts
from evergreen.db.privileges import LOCKED_HINT, as_extension_owner
from evergreen.embedding.batching import rows_worth_claiming
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.limits import shared
from evergreen.embedding.providers.registry import provider
from evergreen.queue import change_log, claims
from evergreen.queue.backfill import CommittedCursors
from evergreen.queue.scan_start import ScanStarts, SnapshotMark
from evergreen.worker import policies
from evergreen.worker.apply import budget, finish
from evergreen.worker.batch import Batch
from evergreen.worker.maintenance import run_all
from evergreen.worker.policies import model_step
from evergreen.worker.sleep import WorkerState
from evergreen.worker.throttle import Throttle

T = TypeVar("T")
BATCH = 1000
_LONGEST_WAIT = 30.0  # seconds for which a rate limit is waited out with the claim in hand
_SLICE, _NO_WAIT = 0.1, 0.0
_POSTPONED = 0.2  # seconds until a text that was in flight elsewhere is looked at again
_AFTER_ALARM = 600.0  # a source that takes for ever to be read is left alone
_MIN_READ_TIMEOUT_S = 1.0
_HOUSEKEEPING = 60.0
_EMPTYING, _BREATH = 10.0, 1.0
_LOCK_ATTEMPTS = 3  # until a batch that a lock keeps from being written is given back


class Worker:
    """Works on one pipeline, or on all of them in turn; many batches are under way at once."""

    def __init__(self, pipeline: str | None, memory: WorkerState) -> None:
        self.saw_more = False  # a claim that was as large as it may be
        self._pipeline = pipeline
        self._memory = memory
        self._dispatcher = RequestDispatcher(
            shared.SharedLimits(), model_step(self._step), _on_tick, longest_wait=_LONGEST_WAIT
        )
        self._batches: list[Batch] = []
        self._resting = memory.resting
        self._full: Counter[int] = Counter()  # how often in a row the disk was full for a pipeline
        self._locked: Counter[int] = Counter()  # or a lock was not to be had
        self._blocked: set[int] = set()  # generations whose model rests
        self._first = random.randrange(1000)  # noqa: S311 - not for secrets; who is first may be the end of this worker
        self._read_timeout = float("inf")
        memory.emptying_at = memory.emptying_at or time.monotonic() + _EMPTYING
        self._cursors = CommittedCursors()
        self._floors = memory.floors
        self._pace = Throttle()
        self._reader = Reader(self._step)
        self._looks = maintenance.Looks(self._step)

    def run_pass(self, deadline: float) -> bool:
        """Make one pass; True when something was done or is under way."""
        if time.monotonic() >= self._memory.housekeeping_at:
            self._memory.housekeeping_at = time.monotonic() + _HOUSEKEEPING
            # An index takes seconds, and leases under way are to be renewed.
            run_all(self._step, at_leisure=not self._batches)
        done = self._read_wal()
        self._pace.begin()
        for number in self._in_turn(self._step(self._chosen)):
            if time.monotonic() > deadline:
                break
            if time.monotonic() >= self._resting.get(number, 0.0):
                with timeouts.time_limit(self._read_timeout):
                    done = self._isolate(number, partial(self._claim_and_start, number)) or done
                self._on_timeout(number)
        was_busy = self._dispatcher.busy
        self._collect(_NO_WAIT if done else _SLICE)
        self._pace.end()
        if time.monotonic() >= self._memory.emptying_at:
            self._memory.emptying_at = time.monotonic() + _EMPTYING
            maintenance.run(self._step, [Task("queue", claims.truncate_queue)] if self._is_queue_done() else [])
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

    def _is_queue_done(self) -> bool:
        """Tell whether the queue may be begun anew; what is in hand is finished first, if that is all there is."""
        if self._batches and not self.has_unwritten and self._step(lambda: claims.is_all_in_hand(self._tokens())):
            until = time.monotonic() + _BREATH
            while self._batches and time.monotonic() < until:
                self._collect(_SLICE)
            if self._batches:  # the model takes too long for it to be done often
                self._memory.emptying_at = time.monotonic() + _HOUSEKEEPING
        return not self._batches

    def _on_timeout(self, number: int) -> None:
        """Leave a source alone that took too long; be less patient with the next one, as one owner may have many."""
        if waited := timeouts.take_timeout():
            self._resting[number] = time.monotonic() + _AFTER_ALARM
            self._read_timeout = max(_MIN_READ_TIMEOUT_S, waited / 2)
            self._say_rests(number, _AFTER_ALARM, "reading its source took too long", told="slow_source")

    def finish(self) -> db.DatabaseError | None:
        """Send nothing more and finish what is under way; return the error where a lock prevented that to the last."""
        self._dispatcher.stop_sending()
        while self._dispatcher.busy:
            self._collect(_SLICE)
        locked: db.DatabaseError | None = None
        for batch in [b for b in self._batches if b.unwritten]:
            try:
                self._end(batch, gives_up=True)
            except db.DatabaseError as error:
                if not policies.is_locked(error):
                    raise
                if batch in self._batches:
                    locked = error
        return locked

    @property
    def has_unwritten(self) -> bool:
        """True while a lock keeps a batch from being written."""
        return any(batch.unwritten for batch in self._batches)

    def close(self) -> None:
        """Give up what is under way; its locks are the caller's to let go."""
        self._dispatcher.close()
        self._batches.clear()

    def _in_turn(self, numbers: list[int]) -> list[int]:
        """Start with another pipeline each time: where they share an endpoint, the first takes the room there is."""
        self._first = (self._first + 1) % max(1, len(numbers))
        return numbers[self._first :] + numbers[: self._first]

    def _chosen(self) -> list[int]:
        """The pipelines as they are now; none when the one that was named has been dropped since."""
        if self._pipeline is None:
            return pipelines.every()
        found = pipelines.find(self._pipeline)
        return [found.id] if found is not None else []

    def anything_left(self) -> bool:
        """True while there is work that this worker could do now or in an instant."""
        return self._read_wal(at_once=True) or self._step(
            lambda: claims.is_anything_left(self._chosen(), [*self._blocked], unreadable=False)
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

    def _isolate(self, number: int, body: Callable[[], bool]) -> bool:
        """Work on one pipeline; what goes wrong there must not keep the others waiting."""
        try:
            done = body()
        except db.DatabaseError as error:
            if db.sqlstate(error).startswith("57"):  # cancelled, terminated, shutting down
                raise
            locked, full = policies.is_locked(error), policies.is_disk_full(error)
            pause = policies.retry_delay(error, self._locked[number] if locked else self._full[number])
            self._locked[number] = self._locked[number] + 1 if locked else 0
            self._full[number] = self._full[number] + 1 if full else 0
            self._resting[number] = time.monotonic() + pause
            if not locked:
                self._say_rests(number, pause, db.message(error), told=db.sqlstate(error))
            return False
        if not done:  # what was claimed and written says so itself, see _end
            self._locked[number] = 0
        return done

    def _say_rests(self, number: int, seconds: float, why: str, told: str) -> None:
        self._step(lambda: event_log.warn("pipeline_backed_off", pipeline=number, seconds=seconds, reason=told))
        db.warning(f"evergreen: pipeline {number} rests for {seconds:g} s: {why}")

    def _claim_and_start(self, number: int) -> bool:
        """Claim and prepare what the pipeline's models have room for; True when anything was claimed."""
        pipeline = self._looks.at(
            number, lambda: _look(number, self._floors), lambda error: policies.retry_delay(error, 0)
        )
        if pipeline is None or any(b.unwritten and b.claim.pipeline.id == number for b in self._batches):
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
                limit = live if lane == LIVE else self._pace.room(room)
                if self._has_room(generation, lane):
                    claimed = self._claim(ClaimRequest(pipeline, generation, lane, limit))
                    if claimed is not None:
                        self.saw_more = self.saw_more or len(claimed.jobs) >= limit
                        room -= len(claimed.jobs) if len(claimed.jobs) == limit else 0
                        self._note(claimed)
                        self._begin(Batch(claimed))
                        done = True
        return done

    def _note(self, claimed: Claim) -> None:
        if claimed.lane == LIVE:
            self._pace.live()
        else:
            self._pace.backfilled(len(claimed.jobs))

    def _has_room(self, generation: Generation, lane: int) -> bool:
        """Tell whether to claim more: each generation has a batch under way, whatever else its endpoint has to do."""
        under_way = any(b.claim.generation.id == generation.id and b.claim.lane == lane for b in self._batches)
        return not under_way or self._dispatcher.has_capacity(
            provider(generation.model.provider), generation.model, lane
        )

    def _claim(self, wanted: ClaimRequest) -> Claim | None:
        return self._step(lambda: claims.claim(wanted, self._tokens(), self._cursors, leased=True, floors=self._floors))

    def _tokens(self) -> list[int]:
        return [batch.claim.token for batch in self._batches]

    def _begin(self, batch: Batch) -> None:
        """Prepare a batch; one that needs no model is finished at once."""
        self._batches.append(batch)

        def prepare() -> None:
            batch.prepare()
            batch.resolve({}, self._dispatcher, self._tokens())

        self._release_on_error(batch, prepare)
        if batch in self._batches and not batch.under_way:
            self._end(batch)

    def _collect(self, timeout: float) -> None:
        """Take answers in and finish the batches that have all of theirs."""
        for task in self._dispatcher.poll(timeout):
            batch: Batch = task.owner
            if batch in self._batches:
                batch.accept(task)
                self._isolate(batch.claim.pipeline.id, partial(self._end, batch))
        for batch in [b for b in self._batches if b.is_to_be_retried()]:
            self._isolate(batch.claim.pipeline.id, partial(self._end, batch))
        for batch in [b for b in self._batches if b.is_to_be_saved()]:
            self._isolate(batch.claim.pipeline.id, partial(self._renew, batch, batch.save))
        for batch in [b for b in self._batches if b.is_to_be_explained()]:
            self._isolate(batch.claim.pipeline.id, partial(self._renew, batch, batch.explain))
        for batch in [b for b in self._batches if b.is_to_be_renewed()]:
            self._isolate(batch.claim.pipeline.id, partial(self._renew, batch, batch.renew))

    def _renew(self, batch: Batch, body: Callable[[], None]) -> bool:
        if batch in self._batches:
            self._step(body)
        return True

    def _end(self, batch: Batch, *, gives_up: bool = False) -> bool:
        """Write a batch and end its claim.

        Where a lock is in the way, as by VACUUM FULL, the batch stays in hand: its answers are paid for. It is given
        back after some tries, or at once with ``gives_up``, if the same lock does not prevent that, too.
        """
        try:
            self._step(lambda: _finish(batch))
        except db.DatabaseError as error:
            if not policies.is_locked(error):
                self._give_back(batch, error)
            else:
                batch.retry_later(policies.retry_delay(error, batch.lock_failures))
                self._save(batch)
                if gives_up or batch.lock_failures >= _LOCK_ATTEMPTS:
                    self._give_back_unless_locked(batch, error)
            raise
        self._full[batch.claim.pipeline.id] = self._locked[batch.claim.pipeline.id] = 0
        self._forget(batch)
        return True

    def _release_on_error(self, batch: Batch, body: Callable[[], object]) -> None:
        """Do a step of a batch; when it fails, its claim is given back."""
        try:
            self._step(body)
        except db.DatabaseError as error:
            self._give_back(batch, error)
            raise

    def _give_back(self, batch: Batch, error: db.DatabaseError) -> None:
        """Give a claim back after an error, except where that ends the session or is a cancel."""
        if not db.sqlstate(error).startswith("57"):
            try:
                self._abandon(batch, error)
            finally:
                self._forget(batch)

    def _abandon(self, batch: Batch, error: db.DatabaseError) -> None:
        pause = policies.retry_delay(error, self._full[batch.claim.pipeline.id])
        self._step(lambda: _abandon(batch, pause, policies.describe(error)))

    def _give_back_unless_locked(self, batch: Batch, error: db.DatabaseError) -> None:
        try:
            self._abandon(batch, error)
        except db.DatabaseError as again:
            if not policies.is_locked(again):
                raise
            if batch.lock_failures == _LOCK_ATTEMPTS:
                name, rows = batch.claim.pipeline.name, len(batch.claim.jobs)
                db.warning(
                    f'pipeline "{name}": {rows} rows cannot be written until a table is unlocked: {db.message(error)}',
                    hint=LOCKED_HINT,
                )
        else:
            self._forget(batch)

    def _save(self, batch: Batch) -> None:
        """Keep the answers of a batch that cannot be written, where no lock prevents that."""
        try:
            self._step(batch.save_all)
        except db.DatabaseError as error:
            if not (policies.is_locked(error) or policies.is_disk_full(error)):
                raise

    def _forget(self, batch: Batch) -> None:
        if batch in self._batches:
            self._batches.remove(batch)
            claims.free_lock(batch.claim)
            db.commit()  # the snapshot of that statement must not last while others wait for their models


def _on_tick() -> None:
    """The first makes cancel work, the second gives up the snapshot that the first took."""
    db.check_interrupts()
    db.commit()


def _look(number: int, floors: ScanStarts) -> Pipeline | None:
    """Return the pipeline with its log folded, or None when there is nothing to do or nothing may be done."""
    floor = floors.of("work", number)
    if floor.known() is None:
        floor.seen = SnapshotMark(0)
        if not floor.timed(lambda: claims.may_have_work(number), int, from_start=True):
            return None
    pipeline = pipelines.by_id(number)
    if pipeline is None or pipeline.state != "active":
        return None
    pipeline = ddl_sync.ready(pipeline)
    if pipeline is not None:
        change_log.coalesce(pipeline, floors.of("change", number))
    return pipeline


def _finish(batch: Batch) -> None:
    batch.defer(_POSTPONED)
    finish(batch.result)
    batch.record_suspects()
    batch.log_done()


def _abandon(batch: Batch, pause: float, why: str | None) -> None:
    if batch.abandon(pause, why):
        claims.delete_lease(batch.claim)
