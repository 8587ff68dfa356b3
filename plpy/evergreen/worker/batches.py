"""A worker's batches under way: writes them, renews them, and releases them after errors."""

from collections.abc import Callable
from functools import partial

from evergreen import db
from evergreen.core.job import Lane
from evergreen.core.pipeline import Generation
from evergreen.db.errors import is_disk_full, is_lock_conflict, is_shutdown_or_cancel
from evergreen.db.privileges import LOCKED_HINT
from evergreen.queue import claims
from evergreen.worker import retry
from evergreen.worker.batch import Batch
from evergreen.worker.commit_policy import CommitPolicy
from evergreen.worker.engine import Engine
from evergreen.worker.pipeline_backoff import PipelineBackoff

POLL_S = 0.1  # seconds to wait for an answer at a time
_LOCK_ATTEMPTS = 3  # tries to write a batch against a lock before its jobs are released


class Batches:
    """The batches of one worker; each step of a batch is its own transaction."""

    def __init__(self, engine: Engine, policy: CommitPolicy, backoff: PipelineBackoff) -> None:
        self._engine = engine
        self._step = policy.step
        self._backoff = backoff
        self._batches = engine.batches

    def __bool__(self) -> bool:
        return bool(self._batches)

    def finish(self) -> db.DatabaseError | None:
        """Send nothing more and finish what is under way; return the error if a lock prevented that to the end."""
        self._engine.dispatcher.stop_sending()
        while self._engine.dispatcher.busy:
            self.collect(POLL_S)
        locked: db.DatabaseError | None = None

        def end(batch: Batch) -> bool:
            nonlocal locked
            try:
                return self._end(batch, is_last_try=True)
            except db.DatabaseError as error:
                if is_lock_conflict(error) and batch in self._batches:
                    locked = error
                raise

        for batch in [b for b in self._batches if b.unwritten]:
            self._backoff.isolate(batch.claim.pipeline.id, partial(end, batch))
        return locked

    @property
    def has_unwritten(self) -> bool:
        """Whether a lock keeps a batch from being written."""
        return any(batch.unwritten for batch in self._batches)

    def is_unwritten(self, pipeline_id: int) -> bool:
        """Return whether a lock keeps a batch of this pipeline from being written."""
        return any(batch.unwritten and batch.claim.pipeline.id == pipeline_id for batch in self._batches)

    def close(self) -> None:
        """Abandon all batches; the caller releases their locks."""
        self._engine.dispatcher.close()
        self._batches.clear()

    def has_room(self, generation: Generation, lane: Lane) -> bool:
        """Return whether to claim more; each generation gets one batch even if its endpoint is busy."""
        under_way = any(b.claim.generation.id == generation.id and b.claim.lane == lane for b in self._batches)
        return not under_way or self._engine.has_capacity(generation, lane)

    def start(self, batch: Batch) -> None:
        """Prepare a batch; finish it at once if it needs no model."""
        try:
            self._engine.start(batch)
        except db.DatabaseError as error:
            self._release(batch, error)
            raise
        if not batch.under_way:
            self._end(batch)

    def collect(self, timeout: float) -> None:
        """Receive answers, and finish the batches that have all of theirs."""
        for batch in self._engine.collect(timeout):
            if batch in self._batches:
                self._backoff.isolate(batch.claim.pipeline.id, partial(self._end, batch))
        for batch in [b for b in self._batches if b.retry_due()]:
            self._backoff.isolate(batch.claim.pipeline.id, partial(self._end, batch))
        for batch in [b for b in self._batches if b.save_due()]:
            self._backoff.isolate(batch.claim.pipeline.id, partial(self._step_if_in_hand, batch, "save", batch.save))
        for batch in [b for b in self._batches if b.error_changed()]:
            self._backoff.isolate(
                batch.claim.pipeline.id, partial(self._step_if_in_hand, batch, "explain", batch.explain)
            )
        for batch in [b for b in self._batches if b.renewal_due()]:
            self._backoff.isolate(batch.claim.pipeline.id, partial(self._step_if_in_hand, batch, "renew", batch.renew))

    def _step_if_in_hand(self, batch: Batch, name: str, body: Callable[[], None]) -> bool:
        if batch in self._batches:
            self._step(name, body)
        return True

    def _end(self, batch: Batch, *, is_last_try: bool = False) -> bool:
        """Write a batch and end its claim.

        If a lock prevents that, such as VACUUM FULL's, the batch stays in hand, because its answers are paid for. After
        several tries, or at once with ``is_last_try``, its jobs are released unless the lock prevents that too.
        """
        try:
            self._engine.finish(batch)
        except db.DatabaseError as error:
            if not is_lock_conflict(error):
                self._release(batch, error)
            else:
                batch.retry_later(retry.retry_delay(error, batch.lock_failures))
                self._save(batch)
                if is_last_try or batch.lock_failures >= _LOCK_ATTEMPTS:
                    self._release_unless_locked(batch, error)
            raise
        self._backoff.reset(batch.claim.pipeline.id)
        self._remove(batch)
        return True

    def _release(self, batch: Batch, error: db.DatabaseError) -> None:
        """Release a claim after an error other than a cancel or shutdown."""
        if not is_shutdown_or_cancel(error):
            try:
                self._abandon(batch, error)
            finally:
                self._remove(batch)

    def _abandon(self, batch: Batch, error: db.DatabaseError) -> None:
        pause = self._backoff.delay(batch.claim.pipeline.id, error)
        self._engine.abandon(batch, pause, retry.describe(error))

    def _release_unless_locked(self, batch: Batch, error: db.DatabaseError) -> None:
        try:
            self._abandon(batch, error)
        except db.DatabaseError as release_error:
            if not is_lock_conflict(release_error):
                raise
            if batch.lock_failures == _LOCK_ATTEMPTS:
                name, rows = batch.claim.pipeline.name, len(batch.claim.jobs)
                db.warning(
                    f'pipeline "{name}": {rows} rows cannot be written until a table is unlocked: {db.message(error)}',
                    hint=LOCKED_HINT,
                )
        else:
            self._remove(batch)

    def _save(self, batch: Batch) -> None:
        """Cache the answers of a batch that cannot be written, unless a lock or a full disk prevents that."""
        try:
            self._step("save", batch.save_all)
        except db.DatabaseError as error:
            if not (is_lock_conflict(error) or is_disk_full(error)):
                raise

    def _remove(self, batch: Batch) -> None:
        if batch in self._batches:
            self._batches.remove(batch)
            claims.unlock(batch.claim)
            db.commit()  # do not hold that statement's snapshot while other batches wait
