"""A worker's part in batches: takes the steps that are due between its other work; calls are made in threads.

Each step is taken by one session, committed before the call, and its outcome after it. What a lost answer may have
created is looked for before it is created again: see docs/how-to/batch.md for what a batch goes through.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.core.errors import ModelError
from evergreen.core.remote_batch import BatchOfTexts
from evergreen.core.step import Step
from evergreen.db import event_log
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.providers.registry import provider
from evergreen.queue import claims
from evergreen.storage import batch_spool, remote_batches
from evergreen.worker import batch_seal, batch_steps
from evergreen.worker.batch_calls import Call, Calls, Download
from evergreen.worker.batch_results import file
from evergreen.worker.sleep import WorkerState

T = TypeVar("T")
_CHECK_S = 1.0  # seconds between two checks of what is due
_RENEW_S = 20.0
_FINISH_S = 60.0  # seconds for calls under way when the worker is to end
_WAIT_S = 0.05


class BatchLane:
    """The batches of a worker's pipelines."""

    def __init__(self, dispatcher: RequestDispatcher, step: Step, kept: WorkerState) -> None:
        self._dispatcher = dispatcher
        self._step = step
        self._kept = kept
        self._calls = Calls()
        self._ends_at: float | None = None  # when the worker stops waiting for calls, once its time is up

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._calls.under_way)

    def wait(self) -> None:
        """Wait a moment for a call under way, when there is nothing else to do."""
        self._calls.wait(_WAIT_S)

    def run(self, pipelines: list[int], *, orphans: bool) -> bool:
        """Do what is due, and return whether anything was. An error here must not keep rows from being embedded.

        ``orphans``: also clean up after pipelines that were dropped.
        """
        done = self._collect()
        if self._ends_at is not None or time.monotonic() < self._kept.batches_at:
            return done
        self._kept.batches_at = time.monotonic() + _CHECK_S
        return bool(self._guarded(lambda: self._run(pipelines, orphans=orphans))) or done

    def _guarded(self, body: Callable[[], T]) -> T | None:
        try:
            return body()
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            event_log.info("batch_step_failed", reason=db.message(error))
        except ModelError as error:  # the limits could not be read
            event_log.info("batch_step_failed", reason=error.log_message or str(error))
        return None

    def _run(self, pipelines: list[int], *, orphans: bool) -> bool:
        for batch in self._step("batch overdue", lambda: remote_batches.overdue(pipelines)):
            self._step("batch give up", lambda batch=batch: _give_up(batch))
        for batch in self._step("batch unsealed", lambda: batch_seal.ready(pipelines)):
            self._step("batch seal", lambda batch=batch: batch_seal.seal(batch))
        took = False
        while self._calls.has_room:
            batch = self._step(
                "batch take", lambda: remote_batches.take(pipelines, self._calls.tokens(), orphans=orphans)
            )
            if batch is None:
                break
            took = True
            self._begin(batch)
        return took

    def _begin(self, batch: BatchOfTexts) -> None:
        """Make the call that a batch needs next, or take its step where that needs none."""
        call = self._step("batch begin", lambda: batch_steps.begin(batch))
        if call is None:
            self._unlock(batch)
            return
        if call.name in ("upload", "create"):
            permit = self._dispatcher.unavailable(provider(call.model.provider), call.model, None)
            if permit is not None:  # the endpoint rests
                self._step("batch rest", lambda: remote_batches.release(batch, min(permit.wait, 60.0), succeeded=False))
                self._unlock(batch)
                return
        self._calls.start(call)

    def _unlock(self, batch: BatchOfTexts) -> None:
        remote_batches.unlock(batch)
        db.commit()  # do not hold that statement's snapshot

    def _collect(self) -> bool:
        """File what came, and take the steps that follow from calls that have ended."""
        done = False
        for call in [*self._calls.under_way]:
            if isinstance(call, Download) and (piece := call.take()) is not None:
                done = True
                if not self._guarded(
                    lambda call=call, piece=piece: self._step("batch file", lambda: file(call.batch, call.model, piece))
                ):
                    call.cancel()
            if call.is_done:
                done = True
                self._calls.under_way.remove(call)
                self._guarded(lambda call=call: self._finish(call))
                self._unlock(call.batch)
                self._kept.batches_at = 0.0
            elif time.monotonic() > call.renew_at + _RENEW_S:
                call.renew_at = time.monotonic()
                self._guarded(lambda call=call: self._step("batch renew", lambda: remote_batches.renew(call.batch)))
        return done

    def _finish(self, call: Call) -> None:
        result = call.result()
        self._step(f"batch {call.name}", lambda: batch_steps.finish(call, result))

    def end(self) -> None:
        """Begin no more calls."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + _FINISH_S

    @property
    def awaits_call(self) -> bool:
        """Whether a call is under way that is waited for at the end; the next worker goes on where it is cut."""
        return self.busy and (self._ends_at is None or time.monotonic() < self._ends_at)

    def finish(self) -> None:
        """Finish the calls under way, within a minute of ``end``."""
        self.end()
        while self.awaits_call:
            if not self._collect():
                self.wait()
            db.check_interrupts()
            db.commit()

    def close(self) -> None:
        """Cut the calls under way; the caller releases the locks."""
        self._calls.close()


def _give_up(batch: int) -> None:
    """Let the rows of a batch past its deadline go by requests."""
    if batch_spool.lock(batch) is None:
        return
    left = batch_spool.give_up(batch, "expired", "its deadline passed")
    claims.wake_batch(batch)
    event_log.warn("batch_overdue", batch=batch, texts=left)
