"""What became of each text, for the task that sends it and for the tasks that wait for the same text."""

from collections import defaultdict

from evergreen.core.embedding import EmbeddingTask, RequestBatch, Vector
from evergreen.core.errors import ModelError
from evergreen.core.pipeline import Model
from evergreen.embedding import fault_isolation
from evergreen.embedding.endpoint_queue import EndpointQueue


class Results:
    """Sends no text twice: a text that one task is sending is awaited by the others."""

    def __init__(self) -> None:
        self._sending: dict[tuple[int, bytes], EmbeddingTask] = {}  # by model and hash
        self._waiters: defaultdict[tuple[int, bytes], list[EmbeddingTask]] = defaultdict(list)

    def under_way(self, model: Model, hashes: list[bytes]) -> set[bytes]:
        """Return the texts that an unfinished task is sending or has a vector of."""
        sending = ((key, self._sending.get((model.id, key))) for key in hashes)
        return {
            key for key, one in sending if one is not None and key not in one.unsent and key not in one.result.failures
        }

    def add(self, task: EmbeddingTask, awaited: set[bytes]) -> None:
        """Add a task that sends its texts and waits for the ``awaited`` ones of other tasks."""
        for key in task.texts:
            self._sending[task.model.id, key] = task
        for key in awaited:
            vectors = self._sending[task.model.id, key].result.vectors
            if key in vectors:
                task.result.vectors[key] = vectors[key]
            else:
                task.awaited.add(key)
                self._waiters[task.model.id, key].append(task)

    def remove(self, task: EmbeddingTask) -> None:
        """Remove a task that is done."""
        for key in task.texts:
            self._sending.pop((task.model.id, key), None)

    def clear(self) -> None:
        """Remove all tasks."""
        self._sending.clear()

    def record(self, task: EmbeddingTask, key: bytes, result: Vector | ModelError | None) -> None:
        """Record a vector, a failure, or None for a text that was not sent.

        Waiters share a vector only: after a failure their own pipeline decides, which may truncate or have money left.
        """
        waiters = self._waiters.pop((task.model.id, key), [])
        for one in waiters:
            one.awaited.discard(key)
        if isinstance(result, ModelError):
            task.result.failures[key] = result
        for one in [task, *waiters]:
            if result is None or (one is not task and isinstance(result, ModelError)):
                one.unsent.add(key)
            elif not isinstance(result, ModelError):
                one.result.vectors[key] = result

    def abort(self, queue: EndpointQueue, task: EmbeddingTask, error: ModelError | None) -> None:
        """Send nothing more of a task; ``error``: what its unsent texts fail with, None to leave them unsent."""
        for key in task.suspects:
            self.record(task, key, error)
        for batch in task.waiting:
            self._abort_batch(task, batch, error)
        self._abort_unresolved(task, error)
        task.suspects.clear()
        task.waiting.clear()
        queue.remove(task)

    def abort_isolation(self, task: EmbeddingTask) -> None:
        """Stop bisecting, so that the rest of the batch can be written; later batches go on from there."""
        for batch in [*task.waiting]:
            if batch.error is not None or batch.canary:
                task.waiting.remove(batch)
                self._abort_batch(task, batch, None)
        self._abort_unresolved(task, None)

    def _abort_unresolved(self, task: EmbeddingTask, error: ModelError | None) -> None:
        for one in task.unresolved:
            self._abort_batch(task, one.batch, error)
        task.unresolved.clear()

    def _abort_batch(self, task: EmbeddingTask, batch: RequestBatch, error: ModelError | None) -> None:
        for key in batch.keys:
            self.record(task, key, fault_isolation.final_error(batch, error, tried=batch.tries > 0))
