"""embed_drain: one bounded pass inside the caller's transaction."""

import time
from collections.abc import Callable
from functools import partial

from evergreen import db
from evergreen.capture.wal import service
from evergreen.catalog import maintenance, options, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.errors import UserError
from evergreen.core.job import ClaimRequest
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import pluralize, quoted
from evergreen.db import event_log, privileges, statement_timeout, timeouts
from evergreen.db.errors import in_class
from evergreen.db.privileges import as_extension_owner, check_owner, sql_entry
from evergreen.embedding.limits import state
from evergreen.queue import change_log, claims
from evergreen.worker.batch import Batch
from evergreen.worker.commit_policy import InCallersTransaction
from evergreen.worker.engine import Engine
from evergreen.worker.maintenance import leftovers
from evergreen.worker.reentrancy import not_reentrant
from evergreen.worker.retry import ERROR_RETRY_S

_MAX_RATE_WAIT_S = 5.0  # longest wait for a rate limit in the caller's transaction
_POLL_S, _NO_WAIT = 0.1, 0.0
_READ_TIMEOUT_S, _MIN_READ_TIMEOUT_S = 5.0, 1.0  # seconds to wait for a source to be read
_MAX_IDLE_STEP_S = 0.2
_IN_FLIGHT_TIMEOUT_S = 3.0  # seconds to wait for texts in flight elsewhere
_IN_FLIGHT_POLL_S = 0.05
# Of the time left to the caller's statement: when sending ends, and when requests under way are cancelled so that the
# answers can be written. As (share, seconds before the end); the later of the two applies.
_TO_SEND, _TO_ANSWER = (0.5, 30.0), (0.75, 10.0)


@sql_entry
def embed_drain(pipeline: str | None, max_rows: int | None, max_runtime: str | None) -> int:
    """Bring up to ``max_rows`` source rows up to date and return how many were.

    Raises 22023, 25001, 25006, 42501, 42704, 55000.
    """
    privileges.check_isolation("embed_drain")
    if max_rows is None or max_rows < 1:
        raise UserError(f"max_rows must be at least 1, not {quoted(max_rows)}", hint="1000 is the default.")
    seconds = options.check_runtime(max_runtime)
    check_owner()  # otherwise each pipeline would be skipped with a warning
    with not_reentrant("embed_drain"):
        return as_extension_owner(
            db.planning.prefer_indexes()(lambda: Drain(pipelines.chosen(pipeline), max_rows, seconds).run())
        )


class DrainPolicy(InCallersTransaction):
    """The policy of embed_drain."""

    def accepts(self, pipeline: Pipeline) -> bool:
        """Return whether the pipeline is active and complete, with a WARNING if it is incomplete."""
        if not super().accepts(pipeline):
            return False
        if pipeline.missing_part is None:
            return True
        what, remedy = pipeline.missing_part
        db.warning(f'pipeline "{pipeline.name}" is incomplete: {what}', hint=f"{remedy[0].upper()}{remedy[1:]}.")
        return False


class Drain:
    """Claims, calls the model, and applies everything in one burst at the end.

    The transaction stays open during the calls, so only the claimed jobs and log rows are locked before them.
    """

    def __init__(self, chosen: list[int], max_rows: int, seconds: float) -> None:
        self._chosen = chosen
        self._room = max_rows
        allowed, now = statement_timeout.left(), time.monotonic()
        self._deadline = now + min(seconds, _until(allowed, *_TO_SEND))
        self._answer_deadline = now + _until(allowed, *_TO_ANSWER)
        # for each source, because there may be others
        self._read_timeout = min(max(_READ_TIMEOUT_S, seconds / 4), max(0.0, allowed) / 4)
        self._policy = DrainPolicy()
        self._engine = Engine(self._policy, longest_wait=_MAX_RATE_WAIT_S)
        self._dispatcher = self._engine.dispatcher
        self._batches = self._engine.batches
        self._warned: set[int] = set()  # generations whose model is unavailable
        self._done: set[tuple[int, str]] = set()  # a row counts once, however many generations it has
        self._idle = 0.0  # seconds without a request under way
        self._idle_checked_at = time.monotonic()

    def run(self) -> int:
        """Run the pass; return the number of rows brought up to date."""
        maintenance.in_transaction([Task("counters", state.create_all), Task("queue rows", change_log.make_missing)])
        service.read_in_drain()
        try:
            self._claim()
            self._await_answers()
            self._await_in_flight_elsewhere()
        finally:
            self._dispatcher.close()
        for batch in self._batches:
            self._write_or_abandon(batch)
        self._policy.cursors.settle()
        maintenance.in_transaction(leftovers())
        self._tell_of_batches()
        return len(self._done)

    def _tell_of_batches(self) -> None:
        """Say how many rows wait for a batch: a drain does not."""
        waiting = claims.count_in_batches(self._chosen)
        if waiting:
            db.notice(f"in a batch at the provider, for which a drain does not wait: {pluralize(waiting, 'row')}")

    def _write_or_abandon(self, batch: Batch) -> None:
        """Write a batch, or else release its rows for a later retry, or at least cache its answers."""
        steps = (partial(self._apply, batch), partial(self._engine.abandon, batch, ERROR_RETRY_S), batch.save_all)
        any(self._isolate(batch.claim.pipeline.id, step) for step in steps)  # until one succeeds

    def _claim(self) -> None:
        """Give each pipeline its share of the rows; unused shares go to pipelines with more work."""
        left = self._chosen
        while left and self._room > 0 and self._has_time():
            before, share = self._room, -(-self._room // len(left))
            left = [pipeline_id for pipeline_id in left if self._claim_share(pipeline_id, share)]
            if left and self._room == before:
                self._engine.collect(_POLL_S)  # their models are at capacity
                if self._is_idle():
                    return

    def _claim_share(self, pipeline_id: int, share: int) -> bool:
        """Claim for one pipeline; return whether it may have more work."""
        mark, room, more = len(self._batches), self._room, [False]

        def claim() -> None:
            with timeouts.time_limit(self._read_timeout):
                more[0] = self._drain_pipeline(pipeline_id, share)

        timeouts.take_timeout()
        if not self._isolate(pipeline_id, claim):
            del self._batches[mark:]
            self._room = room
            return False
        if waited := timeouts.take_timeout():
            self._read_timeout = max(_MIN_READ_TIMEOUT_S, waited / 2)
            return False
        return more[0]

    def _isolate(self, pipeline_id: int, step: Callable[[], None]) -> bool:
        """Run a step atomically; errors of one pipeline must not delay the others."""
        try:
            self._policy.atomically(step)
        except db.DatabaseError as error:
            if in_class(error, "25", "53", "57"):  # caused by the transaction, the server or a user
                raise
            name = event_log.pipeline_name(pipeline_id)
            db.warning(f'evergreen: pipeline "{name}" was skipped: {db.message(error)}', hint=db.hint(error))
            return False
        return True

    def _has_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _drain_pipeline(self, pipeline_id: int, share: int) -> bool:
        pipeline = self._engine.look(pipeline_id, share)
        if pipeline is None:
            return False
        more = [self._drain_generation(pipeline, generation, share) for generation in pipeline.generations]
        return any(more)

    def _drain_generation(self, pipeline: Pipeline, generation: Generation, share: int) -> bool:
        """Claim live jobs up to their share, then backfill, then other live jobs; return whether there may be more."""
        most = self._engine.room(generation)
        left = share
        for lane, limit in claims.lanes(pipeline, share):
            room = limit
            while min(room, left, self._room) > 0 and self._has_time():
                if not self._engine.has_capacity(generation, lane):
                    return True
                if self._is_unavailable(pipeline, generation) or timeouts.timed_out():
                    return False
                wanted = ClaimRequest(pipeline, generation, lane, min(most, room, left, self._room))
                batch = self._engine.claim(wanted)
                if batch is None:
                    break
                rows = len(batch.claim.jobs)
                room -= rows
                left -= rows
                self._room -= rows
                self._engine.start(batch)
                self._engine.collect(_NO_WAIT)
        return left <= 0

    def _is_unavailable(self, pipeline: Pipeline, generation: Generation) -> bool:
        """Return whether a model is unavailable, with a WARNING the first time."""
        permit = self._engine.unavailable(pipeline, generation)
        if permit is not None and generation.id not in self._warned:
            self._warned.add(generation.id)
            db.warning(
                f'pipeline "{pipeline.name}" waits for {permit.wait:.0f} s: {permit.reason}',
                hint="SELECT * FROM embed_status; the rows stay queued for a later drain.",
            )
        return permit is not None

    def _await_answers(self) -> None:
        """Wait for all answers; after the deadline nothing more is sent."""
        while self._dispatcher.busy:
            if time.monotonic() > self._answer_deadline:
                self._engine.cancel()
                return
            if not self._has_time() or self._is_idle():
                self._dispatcher.stop_sending()
            self._engine.collect(_POLL_S)

    def _is_idle(self) -> bool:
        """Return whether the drain has waited too long for permits while it holds vectors."""
        now = time.monotonic()
        self._idle += 0.0 if self._dispatcher.has_in_flight else min(now - self._idle_checked_at, _MAX_IDLE_STEP_S)
        self._idle_checked_at = now
        return self._idle > _MAX_RATE_WAIT_S

    def _await_in_flight_elsewhere(self) -> None:
        """Wait briefly for texts that another session is embedding, because it has paid for them."""
        timeout = min(self._deadline, time.monotonic() + _IN_FLIGHT_TIMEOUT_S)
        while time.monotonic() < timeout:
            waiting = [batch for batch in self._batches if batch.in_flight_elsewhere]
            if not waiting:
                return
            time.sleep(_IN_FLIGHT_POLL_S)  # another session's commit cannot wake this transaction
            db.check_interrupts()
            for batch in waiting:
                self._isolate(batch.claim.pipeline.id, partial(self._engine.resolve_again, batch))
            self._await_answers()

    def _apply(self, batch: Batch) -> None:
        self._done.update((batch.claim.pipeline.id, key) for key in self._engine.finish(batch))
        if batch.discarded:
            name = batch.claim.pipeline.name
            db.warning(
                f'pipeline "{name}": vectors were not written, because the model changed meanwhile',
                hint=f"SELECT state, last_error FROM embed_status WHERE pipeline = {db.literal(name)}; says more.",
            )
        failures = batch.result.prepared.failures
        if failures:
            key, error = next(iter(failures.items()))
            failed = pluralize(len(failures), "row")
            db.warning(
                f'pipeline "{batch.claim.pipeline.name}": {failed} failed, {key} with: {error}',
                hint="SELECT * FROM embed_status; a later drain retries waiting rows.",
            )


def _until(allowed: float, share: float, margin: float) -> float:
    return max(share * allowed, allowed - margin)
