"""One claim: its rows are prepared, resolved and embedded, in a drain or in a worker."""

import time

from evergreen import db
from evergreen.catalog import options
from evergreen.core.document import Document, Prepared
from evergreen.core.embedding import AnyVector, EmbeddingTask, Texts, Usage
from evergreen.core.errors import InvalidVectorError, ModelError, PoisonError, RejectedError
from evergreen.core.job import Claim
from evergreen.db import event_log
from evergreen.db.errors import is_disk_full
from evergreen.embedding import suspects
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.providers.registry import provider
from evergreen.prepare.documents import prepare
from evergreen.queue import claims
from evergreen.storage import vector_cache
from evergreen.worker import model_change
from evergreen.worker.apply import budget, clear_in_flight, record_usage, with_owners
from evergreen.worker.result import BatchResult, Deferral
from evergreen.worker.spooling import Spooling


class Batch:
    """The texts of a claim and their state."""

    def __init__(self, claim: Claim, *, spools: bool = False) -> None:
        """``spools``: history may wait for the provider's batch API."""
        self.claim = claim
        self.result = BatchResult(claim, Prepared())
        self.in_flight_elsewhere: Texts = {}
        self._tasks: list[EmbeddingTask] = []  # with the dispatcher
        self._started_at = time.monotonic()
        self._renew_at = self._started_at + claim.lease / 3
        self.discarded = False  # its vectors may be of another model
        self.lock_failures = 0  # consecutive writes that a lock prevented
        self.retry_at: float | None = None  # and when to try again
        self._provider = provider(claim.generation.model.provider)
        self._spooling = Spooling(claim, adds=spools and not self._provider.free)
        # Texts that were not sent, with the delay and the error they wait for.
        self._unsent: dict[bytes, Deferral] = {}
        self._shown_error: str | None = None  # the error last shown for rows that wait while claimed
        self._suspects: dict[bytes, bool] = {}  # texts that are sent alone, and whether they were answered
        self._failed_alone: dict[bytes, bool] = {}  # texts that failed when sent alone

    def prepare(self) -> None:
        """Read and chunk the rows; release those that do not fit in memory."""
        result = self.result
        result.prepared = prepare(self.claim.pipeline, self.claim.generation, [*self.claim.jobs])
        result.lost = not claims.release_jobs(self.claim, result.prepared.unread)
        result.released.update(result.prepared.unread)

    def resolve(
        self, own_vectors: dict[bytes, AnyVector], dispatcher: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        """Submit the texts that need a model call to the dispatcher.

        ``own_vectors``: vectors that this drain received but has not written yet.
        """
        documents = self.result.prepared.documents
        needed: Texts = {text_hash: text for d in documents for text_hash, text in d.chunks}
        new = [text_hash for d in documents if self.claim.jobs[d.key].batch is None for text_hash, _ in d.chunks]
        cost = self.result.cost
        cost.saved.by_fingerprint = self.result.prepared.unchanged
        cost.saved.by_dedupe = cost.alone.by_dedupe = len(new) - len(set(new))
        self._resolve(needed, own_vectors, dispatcher, own_tokens)

    def resolve_again(
        self, own_vectors: dict[bytes, AnyVector], dispatcher: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        """Resolve the texts that were in flight elsewhere again."""
        self._resolve(self.in_flight_elsewhere, own_vectors, dispatcher, own_tokens)

    def _resolve(
        self, texts: Texts, own_vectors: dict[bytes, AnyVector], dispatcher: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        generation, token, cost = self.claim.generation, self.claim.token, self.result.cost
        remembered = {text_hash: own_vectors[text_hash] for text_hash in texts if text_hash in own_vectors}
        awaited = dispatcher.under_way(
            generation.model, [text_hash for text_hash in texts if text_hash not in remembered]
        )
        rest = {
            text_hash: text
            for text_hash, text in texts.items()
            if text_hash not in remembered and text_hash not in awaited
        }
        found = vector_cache.resolve(generation, rest, token, own_tokens, free=self._provider.free)
        self.result.vectors.update(remembered)
        self.result.vectors.update(found.known)
        self.in_flight_elsewhere = found.elsewhere
        if not self._provider.free:
            self.result.marked.update(found.send)
        send = self._spooling.sort(self.result.prepared.documents, found)
        cost.saved.by_dedupe += len(remembered) + len(awaited) + self._spooling.shared
        cost.alone.by_dedupe += self._spooling.shared
        # What a batch brought is no saving, and need not stay in the cache once it is stored.
        brought = self._spooling.brought(self.result.prepared.documents, found)
        self.result.cached.update(brought)
        cost.saved.by_cache += len(found.known) - len(brought)
        cost.alone.by_cache += len(found.known) - len({*found.foreign, *brought})
        # The owners of texts that this session holds are unknown: count them as other owners' texts.
        spared = {
            **{text_hash: text for text_hash, text in found.foreign.items() if text_hash not in self._spooling.foreign},
            **{text_hash: texts[text_hash] for text_hash in texts if text_hash in remembered or text_hash in awaited},
        }
        cost.alone.spare(spared, send, self._provider.limits(generation.model))
        if send or awaited:
            task = self._task(send)
            task.max_batch = self._max_batches(send)
            task.canary_first = not any(self._suspects.values())
            self._tasks.append(task)
            dispatcher.submit(task, awaited, self)

    def _task(self, texts: Texts) -> EmbeddingTask:
        claim = self.claim
        given = claim.pipeline.options
        return EmbeddingTask(
            self._provider,
            claim.generation.model,
            texts,
            lane=claim.lane,
            live_share=options.effective(given, "live_share"),
            truncate=options.effective(given, "on_too_long") == "truncate",
            budget=budget(claim.pipeline),
        )

    def _max_batches(self, texts: Texts) -> dict[bytes, int]:
        """Return the largest batch for each text whose request failed as a whole."""
        found: dict[bytes, int] = {}
        for document in self.result.prepared.documents:
            if most := self.claim.jobs[document.key].max_batch:
                found |= {
                    text_hash: min(most, found.get(text_hash, most))
                    for text_hash, _ in document.chunks
                    if text_hash in texts
                }
        if not self._provider.free:
            self._suspects = suspects.among(self.claim.generation.model.id, [*texts])
            found |= dict.fromkeys(self._suspects, 1)
        return found

    def accept(self, task: EmbeddingTask) -> None:
        """Take over the result of a task of this batch."""
        self._tasks.remove(task)
        self._add_usage(task.usage)
        outcome = task.result
        self.result.vectors.update(outcome.vectors)
        answered = [text_hash for text_hash in task.texts if text_hash in outcome.vectors]
        self.result.sent.update(answered)
        self.result.cost.alone.count(task.texts[text_hash] for text_hash in answered)
        self._unsent.update(dict.fromkeys(task.unsent, Deferral(task.pause, task.last_error)))
        for text_hash, error in outcome.failures.items():
            if type(error) in (PoisonError, InvalidVectorError, RejectedError):
                self._failed_alone[text_hash] = type(error) is not PoisonError
        for document in self.result.prepared.documents:
            error = _first_error(document, outcome.failures)
            if error is not None:
                self.result.prepared.failures[document.key] = error

    def _add_usage(self, spent: Usage) -> None:
        total = self.result.cost.spent
        total.calls += spent.calls
        total.texts += spent.texts
        total.tokens += spent.tokens

    def defer(self, seconds: float) -> None:
        """Mark rows without all vectors for release: for some seconds, or as long as an unsent text must wait."""
        failed = self.result.prepared.failures
        self.result.deferred = {
            document.key: self._deferral(document, seconds)
            for document in self.result.prepared.documents
            if document.key not in failed and not self.result.complete(document)
        }

    def spool(self) -> None:
        """Add texts to a batch; ``defer`` their rows in the same transaction."""
        self._spooling.add(self.result)

    def _deferral(self, document: Document, seconds: float) -> Deferral:
        if awaited := self._spooling.waits.get(document.key):
            return Deferral(batch=awaited)
        unsent = [self._unsent[text_hash] for text_hash, _ in document.chunks if text_hash in self._unsent]
        return max(unsent, key=lambda deferral: deferral.delay, default=Deferral(seconds))

    def discard(self) -> None:
        """Drop the vectors: another model is served than when they were requested, and they may be its."""
        self.discarded = bool(self.result.vectors)
        self.result.vectors.clear()
        self.result.sent.clear()

    def record_suspects(self) -> None:
        """Record the texts that made a request fail, and clear those that passed."""
        if not self._provider.free:
            model = self.claim.generation.model.id
            suspects.note(model, self._failed_alone)
            suspects.clear(model, [text_hash for text_hash in self._suspects if text_hash in self.result.sent])

    @property
    def under_way(self) -> bool:
        """Whether a task of this batch is with the dispatcher."""
        return bool(self._tasks)

    @property
    def unwritten(self) -> bool:
        """Whether a lock keeps the batch, which has all its answers, from being written."""
        return self.retry_at is not None

    def retry_later(self, seconds: float) -> None:
        """Record that a lock prevented the write."""
        self.lock_failures += 1
        self.retry_at = time.monotonic() + seconds

    def retry_due(self) -> bool:
        """Return whether to retry the write now."""
        return self.retry_at is not None and time.monotonic() >= self.retry_at

    def save_due(self) -> bool:
        """Return whether some answers arrived and others are out: a crash would lose what was paid for."""
        return not self._provider.free and bool(self._new())

    def save(self) -> None:
        """Cache the answers received so far until the batch is written."""
        new = self._new() if model_change.is_current(self.claim) else {}
        vector_cache.cache_vectors(self.claim, with_owners(self.result, new))
        self.result.cached.update(new)

    def save_all(self) -> None:
        """Cache all answers while a lock prevents the write, so that they outlive this worker."""
        if not self._provider.free and model_change.is_current(self.claim):
            new = {
                text_hash: vector
                for text_hash, vector in self._answers().items()
                if text_hash not in self.result.cached
            }
            vector_cache.cache_vectors(self.claim, with_owners(self.result, new))
            self.result.cached.update(new)

    def _answers(self) -> dict[bytes, AnyVector]:
        vectors = self.result.vectors
        return {text_hash: vectors[text_hash] for text_hash in self.result.sent if text_hash in vectors}

    def _new(self) -> dict[bytes, AnyVector]:
        cached = self.result.cached
        return {
            text_hash: v
            for task in self._tasks
            for text_hash, v in task.result.vectors.items()
            if text_hash not in cached
        }

    def _last_error(self) -> ModelError | None:
        return next((task.last_error for task in self._tasks if task.last_error is not None), None)

    def error_changed(self) -> bool:
        """Return whether the rows wait for their model because of an error that is not shown yet."""
        error = self._last_error()
        return error is not None and str(error) != self._shown_error

    def explain(self) -> None:
        """Record the error that the rows wait for, for embed_status."""
        error = self._last_error()
        assert error is not None
        self._shown_error = str(error)
        claims.set_last_error(self.claim, str(error), error.scope)

    def renewal_due(self) -> bool:
        """Return whether a third of the lease has passed."""
        return time.monotonic() > self._renew_at

    def renew(self) -> None:
        """Renew the lease."""
        self._renew_at = time.monotonic() + self.claim.lease / 12  # if the renewal fails
        claims.renew(self.claim, [*self.result.marked])
        self._renew_at = time.monotonic() + self.claim.lease / 3

    def abandon(self, delay: float, why: str | None = None) -> bool:
        """Release the claim's jobs and cache the answers; return False if another session has a job locked."""
        try:
            db.atomically(self._cache_answers)
        except db.DatabaseError as error:
            if not is_disk_full(error):  # releasing the jobs takes less space
                raise
        self.record_suspects()
        clear_in_flight(self.result)
        return claims.release_jobs(self.claim, [*self.claim.jobs], delay, why)

    def _cache_answers(self) -> None:
        result = self.result
        if model_change.is_current(self.claim):
            vector_cache.cache_vectors(self.claim, with_owners(result, self._answers() | self._new()))
        record_usage(result)

    def log_done(self) -> None:
        """Log at debug level that this batch is done."""
        claim = self.claim
        event_log.debug(
            "batch_done",
            pipeline=claim.pipeline.name,
            generation=claim.generation.id,
            lane=claim.lane.label,
            rows=len(claim.jobs),
            **vars(self.result.cost.spent),
            failed=len(self.result.prepared.failures),
            seconds=round(time.monotonic() - self._started_at, 3),
        )


def _first_error(document: Document, failures: dict[bytes, ModelError]) -> ModelError | None:
    return next((failures[text_hash] for text_hash, _ in document.chunks if text_hash in failures), None)
