"""A worker's part in watching models: sends the looks that are due, and marks vectors after a change."""

import time

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.embedding import EmbeddingTask
from evergreen.core.errors import ModelError
from evergreen.core.step import Step
from evergreen.db import event_log
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.providers.registry import provider
from evergreen.embedding.watch import packaged, state
from evergreen.embedding.watch.decision import Verdict
from evergreen.embedding.watch.state import Look, Sweep
from evergreen.embedding.watch.texts import KEYS, TEXTS
from evergreen.queue import change_log
from evergreen.storage import marking, usage
from evergreen.worker.sleep import WorkerState

_CHECK_S = 5.0  # longest time between two checks of what is due
_MARK_S = 0.2  # while vectors are to be marked


class ModelWatch:
    """Looks at models between a worker's other work; its requests share their limits."""

    def __init__(self, dispatcher: RequestDispatcher, step: Step, kept: WorkerState) -> None:
        self._dispatcher = dispatcher
        self._step = step
        self._kept = kept
        self._answered: list[EmbeddingTask] = []

    def receive(self, task: EmbeddingTask) -> None:
        """Take the answer to a look; ``run`` writes down what it shows."""
        self._answered.append(task)

    def run(self) -> None:
        """Do what is due. An error here must not keep rows from being embedded."""
        if not self._answered and time.monotonic() < self._kept.watch_at:
            return
        self._kept.watch_at = time.monotonic() + _CHECK_S
        try:
            self._run()
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            event_log.info("watch_failed", reason=db.message(error))
        except ModelError as error:  # the limits could not be read
            event_log.info("watch_failed", reason=str(error))

    def _run(self) -> None:
        self.finish()
        for look in self._step("watch", state.take_due):
            self._send(look)
        sweeps = self._step("watch changes", state.sweeps)
        for sweep in sweeps:
            self._sweep(sweep)
        left = self._step("watch due", state.seconds_left)
        self._kept.watches = left is not None
        longest = _MARK_S if sweeps else _CHECK_S
        self._kept.watch_at = time.monotonic() + max(0.0, min(longest, longest if left is None else left))

    def finish(self) -> None:
        """Write down what the answered looks show, and look soon at models that are called otherwise than before."""
        if self._kept.watches:
            self._note_names()
        answered, self._answered = self._answered, []
        for task in answered:
            self._step("watch result", lambda task=task: self._record(task))

    def _note_names(self) -> None:
        for model, name in self._dispatcher.take_names().items():
            if self._kept.names.get(model) != name:
                self._kept.names[model] = name
                self._step("watch names", lambda model=model, name=name: state.hasten(model, name))
                self._kept.watch_at = 0.0

    def _send(self, look: Look) -> None:
        chosen = provider(look.model.provider)
        permit = self._dispatcher.unavailable(chosen, look.model, None)
        if permit is not None:
            self._step("watch result", lambda: state.fail(look, permit.reason))
            return
        texts = dict(zip(KEYS, TEXTS, strict=True))
        self._dispatcher.submit(EmbeddingTask(chosen, look.model, texts, retries=False, is_look=True), set(), look)

    def _record(self, task: EmbeddingTask) -> None:
        look: Look = task.owner
        usage.record_query_usage(None, look.model, task.usage, is_question=False)
        vectors = task.result.vectors
        if any(key not in vectors for key in KEYS):
            state.fail(look, _reason(task))
            return
        seen = [vectors[key] for key in KEYS]
        if not packaged.can_tell(look.model, seen):
            state.fail(look, "this session loaded the model before it changed")
            return
        found = state.record(look, seen, task.served_as)
        if found is not None and found.verdict in (Verdict.CHANGED, Verdict.ALTERNATES, Verdict.DOUBT):
            self._kept.watch_at = 0.0

    def _sweep(self, sweep: Sweep) -> None:
        if not sweep.dated:
            self._step("watch horizon", lambda: state.date(sweep))
        elif sweep.ready:
            self._step("watch mark", lambda: _mark(sweep))


def _reason(task: EmbeddingTask) -> str:
    """Return why a look has no answer, without what the server said: it goes to the log."""
    error: ModelError | None = next(iter(task.result.failures.values()), task.last_error)
    return error.log_message if error is not None and error.log_message is not None else "no answer"


def _mark(sweep: Sweep) -> None:
    """Mark what a changed model may have made; the last call, when nothing is left, ends the sweep.

    First the rows, then the cache: a vector that is replaced meanwhile moves from a row to the cache.
    """
    if not state.lock(sweep):
        return
    is_left = False
    for generation_id, pipeline_id in marking.generations(sweep.model, sweep.revision):
        pipeline = pipelines.by_id(pipeline_id)
        generation = next((g for g in pipeline.generations if g.id == generation_id), None) if pipeline else None
        if generation is None:
            continue
        keys, more = marking.mark(generation, sweep.since)
        is_left = is_left or more or bool(keys)
        if keys:
            change_log.log_keys(pipeline_id, keys)
            event_log.info("vectors_marked", pipeline=pipeline_id, generation=generation_id, rows=len(keys))
    if not is_left:
        marking.forget_cached(sweep.model, sweep.revision, sweep.since)
        state.end(sweep)
