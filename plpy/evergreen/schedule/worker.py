"""A worker's pass over its pipelines: each step is one short transaction."""

import time
from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.apply.write import apply, keep
from evergreen.catalog import pipelines
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.detect import follow
from evergreen.gate import elevated
from evergreen.schedule import claim, intake
from evergreen.schedule.batch import Batch
from evergreen.schedule.claim import Claim
from evergreen.schedule.cursors import Shared
from evergreen.setup import setting

T = TypeVar("T")

BATCH = 1000
_POSTPONED = 0.2  # seconds until a text that was in flight elsewhere is looked at again
_AFTER_ERROR = 5.0
_HOUSEKEEPING = 60.0


class Worker:
    """Works on one pipeline, or on all of them in turn."""

    def __init__(self, pipeline: str | None) -> None:
        self._pipeline = pipeline
        self._tokens: list[int] = []
        self._resting: dict[int, float] = {}  # pipelines after an error: until when
        self._housekeeping_at = 0.0
        self._cursors = Shared()

    def once(self, deadline: float) -> bool:
        """Make one pass; True when something was done."""
        done = False
        for number in self._step(self._chosen):
            if time.monotonic() > deadline:
                break
            if time.monotonic() >= self._resting.get(number, 0.0):
                done = self._guarded(number) or done
        if time.monotonic() >= self._housekeeping_at:
            self._housekeeping_at = time.monotonic() + _HOUSEKEEPING
            self._step(_keep_house)
        return done

    def _chosen(self) -> list[int]:
        """The pipelines as they are now; none when the one that was named has been dropped since."""
        if self._pipeline is None:
            return pipelines.every()
        found = pipelines.find(self._pipeline)
        return [found.id] if found is not None else []

    def anything_left(self) -> bool:
        """True while there is work that this worker could do now or in an instant."""
        return self._step(lambda: bool(db.value(claim.SQL.anything_left, self._chosen())))

    def _step(self, body: Callable[[], T]) -> T:
        """Run one step with the extension's rights, in a transaction of its own."""
        try:
            result = elevated(body)
        except db.DatabaseError:
            db.rollback()
            raise
        db.commit()
        return result

    def _guarded(self, number: int) -> bool:
        """Work on one pipeline; what goes wrong there must not keep the others waiting."""
        try:
            return self._work(number)
        except db.DatabaseError as error:
            if db.sqlstate(error).startswith("57"):  # cancelled, terminated, shutting down
                raise
            pause = _pause_after(error)
            self._resting[number] = time.monotonic() + pause
            if pause == _AFTER_ERROR:
                db.warning(f"evergreen: pipeline {number} rests for {pause:g} s after: {db.message(error)}")
            return False

    def _work(self, number: int) -> bool:
        pipeline = self._step(lambda: _look(number))
        if pipeline is None:
            return False
        done = False
        for generation in pipeline.generations:  # one at a time: an error in one must not leave another's claim behind
            claimed = self._claim(pipeline, generation)
            if claimed is not None:
                self._process(claimed)
                done = True
        return done

    def _claim(self, pipeline: Pipeline, generation: Generation) -> Claim | None:
        claimed = self._step(lambda: claim.take(pipeline, generation, BATCH, self._tokens, self._cursors, leased=True))
        if claimed is not None:
            self._tokens.append(claimed.token)
        return claimed

    def _process(self, claimed: Claim) -> None:
        batch = Batch(claimed)
        try:
            self._step(lambda: (batch.prepare(), batch.sort({}, self._tokens)))
            if batch.needs_sql:
                self._step(lambda: batch.embed(db.check_interrupts))
            else:
                batch.embed(_breathe)
            self._step(lambda: _finish(batch))
        except db.DatabaseError as error:
            if not db.sqlstate(error).startswith("57"):
                pause = _pause_after(error)
                self._step(lambda: _abandon(batch, pause))
            raise
        finally:
            self._tokens.remove(claimed.token)
            db.value(claim.SQL.free_token, claimed.lock)


def _breathe() -> None:
    """The first makes cancel work, the second gives up the snapshot that the first took."""
    db.check_interrupts()
    db.commit()


def _look(number: int) -> Pipeline | None:
    """Return the pipeline with its log folded, or None when there is nothing to do or nothing may be done."""
    if not db.value(claim.SQL.anything_left, [number]) and not db.value(claim.SQL.lost_claims, number):
        return None
    pipeline = pipelines.by_id(number)
    if pipeline is None or pipeline.state != "active":
        return None
    pipeline = follow.check(pipeline)
    if pipeline is not None:
        intake.shared(pipeline)
    return pipeline


def _finish(batch: Batch) -> None:
    batch.postpone(_POSTPONED)
    apply(batch.result)
    batch.land()
    if not batch.result.lost:  # else the lease stays and its lock goes: a dead claim, which anybody takes over
        claim.release(batch.claim)


def _pause_after(error: db.DatabaseError) -> float:
    """Seconds to wait after an error: a moment where a lock was not to be had, longer where something is wrong."""
    return _POSTPONED if db.sqlstate(error) in {"55P03", "40P01"} else _AFTER_ERROR


def _abandon(batch: Batch, pause: float) -> None:
    if batch.prepared:
        keep(batch.result)
    batch.land()
    claim.put_back(batch.claim, [*batch.claim.jobs], pause)
    claim.release(batch.claim)


def _keep_house() -> None:
    db.run(claim.SQL.drop_expired_leases)
    db.run(claim.SQL.purge_cache, setting.get("cache_retention"))
