"""embed_drain: one bounded pass inside the caller's transaction."""

import time
from collections.abc import Callable
from functools import partial

from evergreen import db
from evergreen.apply.vectors import Known
from evergreen.apply.write import apply
from evergreen.catalog import pipelines
from evergreen.detect import follow
from evergreen.errors import UserError, shown
from evergreen.gate import elevated, entry
from evergreen.schedule import arguments, claim, intake
from evergreen.schedule.batch import Batch
from evergreen.schedule.cursors import Private
from evergreen.schedule.recursion import running

BATCH = 1000
_PATIENCE = 3.0  # seconds to wait for texts in flight elsewhere
_LOOK = 0.05


@entry
def embed_drain(pipeline: str | None, max_rows: int | None, max_runtime: str | None) -> int:
    """Bring up to ``max_rows`` source rows up to date and return how many were; raises 25001, 22023, 42704, 55000."""
    arguments.check_isolation("embed_drain")
    if max_rows is None or max_rows < 1:
        raise UserError(f"max_rows must be at least 1, not {shown(max_rows)}", hint="1000 is the default.")
    seconds = arguments.check_runtime(max_runtime)
    with running("embed_drain"):
        return elevated(lambda: Drain(arguments.chosen(pipeline), max_rows, seconds).run())


class Drain:
    """Claims, calls the model, and applies everything in one burst at the end.

    The transaction stays open around the calls, so nothing is locked before them but the claimed jobs and log rows.
    """

    def __init__(self, chosen: list[int], max_rows: int, seconds: float) -> None:
        self._chosen = chosen
        self._room = max_rows
        self._deadline = time.monotonic() + seconds
        self._batches: list[Batch] = []
        self._done = 0
        self._cursors = Private()
        self._memory: dict[int, dict[bytes, Known]] = {}

    def run(self) -> int:
        """Do the pass; return the number of rows brought up to date."""
        for number in self._chosen:
            mark = len(self._batches)
            if not self._guarded(number, partial(self._drain_pipeline, number)):
                del self._batches[mark:]
        self._wait_for_others()
        for batch in self._batches:
            self._guarded(batch.claim.pipeline.id, partial(self._apply, batch))
        self._cursors.settle()
        return self._done

    def _guarded(self, number: int, step: Callable[[], None]) -> bool:
        """Do a step wholly or not at all; what goes wrong in one pipeline must not keep the others waiting."""
        try:
            db.atomically(step)
        except db.DatabaseError as error:
            if db.sqlstate(error).startswith(("25", "53", "57")):  # the transaction's, the server's or a user's doing
                raise
            db.warning(f"evergreen: pipeline {number} could not be worked on: {db.message(error)}")
            return False
        return True

    def _has_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _drain_pipeline(self, number: int) -> None:
        pipeline = pipelines.by_id(number)
        if pipeline is None or pipeline.state != "active" or self._room <= 0 or not self._has_time():
            return
        pipeline = follow.check(pipeline)
        if pipeline is None:
            return
        intake.private(pipeline, self._room)
        for generation in pipeline.generations:
            while self._room > 0 and self._has_time():
                claimed = claim.take(
                    pipeline, generation, min(BATCH, self._room), self._tokens(), self._cursors, leased=False
                )
                if claimed is None:
                    break
                self._room -= len(claimed.jobs)
                self._embed(Batch(claimed))

    def _tokens(self) -> list[int]:
        return [batch.claim.token for batch in self._batches]

    def _embed(self, batch: Batch) -> None:
        self._batches.append(batch)
        memory = self._memory.setdefault(batch.claim.generation.model.id, {})
        batch.prepare()
        batch.sort(memory, self._tokens())
        batch.embed(db.check_interrupts)
        memory.update({key: batch.result.vectors[key] for key in batch.result.sent})

    def _wait_for_others(self) -> None:
        """Texts that another session is embedding are worth waiting for, a little: it has paid for them."""
        patience = min(self._deadline, time.monotonic() + _PATIENCE)
        while time.monotonic() < patience:
            waiting = [batch for batch in self._batches if batch.elsewhere]
            if not waiting:
                return
            time.sleep(_LOOK)  # another session's commit cannot wake a transaction that is waiting for it
            db.check_interrupts()
            for batch in waiting:
                batch.sort_again(self._tokens())
                batch.embed(db.check_interrupts)

    def _apply(self, batch: Batch) -> None:
        batch.postpone(0.0)
        self._done += apply(batch.result)
        batch.land()
        failures = batch.result.prepared.failures
        if failures:
            key, error = next(iter(failures.items()))
            db.warning(
                f'pipeline "{batch.claim.pipeline.name}": {len(failures)} rows failed, {key} with: {error}',
                hint="SELECT * FROM embed_status; waiting rows are tried again by a later drain.",
            )
