"""Backs off a pipeline after an error or a slow read, so that the other pipelines do not wait for it."""

import time
from collections import Counter
from collections.abc import Callable

from evergreen import db
from evergreen.core.step import Step
from evergreen.db import event_log
from evergreen.db.errors import is_disk_full, is_lock_conflict, is_shutdown_or_cancel
from evergreen.worker import retry


class PipelineBackoff:
    """When each pipeline may be processed again; ``until`` outlives a call of embed_work."""

    def __init__(self, step: Step, until: dict[int, float]) -> None:
        self._step = step
        self._until = until
        self._disk_full: Counter[int] = Counter()  # consecutive failures by pipeline: the disk was full
        self._lock_conflicts: Counter[int] = Counter()  # a lock was not available

    def is_over(self, pipeline_id: int) -> bool:
        """Return whether the pipeline may be processed now."""
        return time.monotonic() >= self._until.get(pipeline_id, 0.0)

    def start(self, pipeline_id: int, seconds: float, message: str, reason: str) -> None:
        """Back a pipeline off, with a WARNING; ``reason``: as logged."""
        self._until[pipeline_id] = time.monotonic() + seconds
        self._log(pipeline_id, seconds, message, reason)

    def reset(self, pipeline_id: int) -> None:
        """Reset the failures of a pipeline after a successful write."""
        self._disk_full[pipeline_id] = self._lock_conflicts[pipeline_id] = 0

    def delay(self, pipeline_id: int, error: db.DatabaseError) -> float:
        """Return the seconds that the pipeline's rows wait after an error."""
        return retry.retry_delay(error, self._failures(error)[pipeline_id])

    def _failures(self, error: db.DatabaseError) -> Counter[int]:
        """Return the consecutive failures of an error's kind, which make its delay grow."""
        return self._lock_conflicts if is_lock_conflict(error) else self._disk_full

    def isolate(self, pipeline_id: int, body: Callable[[], bool]) -> bool:
        """Process one pipeline; its errors must not delay the others."""
        try:
            done = body()
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):  # cancelled, terminated, shutting down
                raise
            delay = self.delay(pipeline_id, error)
            self._count(pipeline_id, error)
            self._until[pipeline_id] = time.monotonic() + delay
            if not is_lock_conflict(error):
                self._log(pipeline_id, delay, db.message(error), reason=db.sqlstate(error))
            return False
        if not done:  # a batch that is written resets it itself
            self._lock_conflicts[pipeline_id] = 0
        return done

    def _count(self, pipeline_id: int, error: db.DatabaseError) -> None:
        for counter, failed in (
            (self._lock_conflicts, is_lock_conflict(error)),
            (self._disk_full, is_disk_full(error)),
        ):
            counter[pipeline_id] = counter[pipeline_id] + 1 if failed else 0

    def _log(self, pipeline_id: int, seconds: float, message: str, reason: str) -> None:
        def log() -> str:
            event_log.warn("pipeline_backed_off", pipeline=pipeline_id, seconds=seconds, reason=reason)
            return event_log.pipeline_name(pipeline_id)

        name = self._step("log", log)
        db.warning(f'evergreen: pipeline "{name}" is backed off for {seconds:g} s: {message}')
