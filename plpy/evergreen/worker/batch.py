"""One claim on its way: prepared, sorted, embedded; the drain and the worker differ only in when they commit."""

import time

from evergreen import db
from evergreen.catalog import options
from evergreen.core.document import Document, Prepared
from evergreen.core.embedding import AnyVector, EmbeddingTask, Texts, Usage
from evergreen.core.errors import InvalidVectorError, ModelError, PoisonError, RejectedError
from evergreen.core.job import LIVE, Claim
from evergreen.db import event_log
from evergreen.db.errors import is_disk_full
from evergreen.embedding import suspects
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.providers.registry import provider
from evergreen.prepare.documents import prepare
from evergreen.queue import claims
from evergreen.storage import vector_cache
from evergreen.worker.apply import budget, end_flight, owned, record_usage
from evergreen.worker.result import BatchResult, Wait


class Batch:
    """The texts of a claim and what is known of them."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.result = BatchResult(claim, Prepared())
        self.in_flight_elsewhere: Texts = {}
        self._tasks: list[EmbeddingTask] = []  # with the dispatcher
        self._started_at = time.monotonic()
        self._renew_at = self._started_at + claim.lease / 3
        self.lock_failures = 0  # how often in a row a lock kept it from being written
        self.retry_at: float | None = None  # then: when to try again
        self._provider = provider(claim.generation.model.provider)
        # Texts that were given up without a try, with the pause they need and what is in their way.
        self._unsent: dict[bytes, Wait] = {}
        self._shown_error: str | None = None  # why rows wait with the claim in hand, as it was said
        self._suspects: dict[bytes, bool] = {}  # texts that are sent alone, and whether they were answered
        self._failed_alone: dict[bytes, bool] = {}  # texts that failed alone

    def prepare(self) -> None:
        """Read the rows and cut their texts; give back what there is no room for."""
        result = self.result
        result.prepared = prepare(self.claim.pipeline, self.claim.generation, [*self.claim.jobs])
        result.lost = not claims.release_jobs(self.claim, result.prepared.unread)
        result.released.update(result.prepared.unread)

    def resolve(
        self, own_vectors: dict[bytes, AnyVector], dispatcher: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        """Find out which texts need a call, and submit those to the dispatcher.

        ``memory``: vectors that this drain got already and did not write yet.
        """
        chunks = [(key, text) for d in self.result.prepared.documents for key, text in d.chunks]
        needed: Texts = dict(chunks)
        cost = self.result.cost
        cost.saved.by_fingerprint = self.result.prepared.unchanged
        cost.saved.by_dedupe = cost.alone.by_dedupe = len(chunks) - len(needed)
        self._resolve(needed, own_vectors, dispatcher, own_tokens)

    def resolve_again(
        self, own_vectors: dict[bytes, AnyVector], dispatcher: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        """Look once more at what was in flight elsewhere."""
        self._resolve(self.in_flight_elsewhere, own_vectors, dispatcher, own_tokens)

    def _resolve(
        self, texts: Texts, own_vectors: dict[bytes, AnyVector], dispatcher: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        generation, token, cost = self.claim.generation, self.claim.token, self.result.cost
        remembered = {key: own_vectors[key] for key in texts if key in own_vectors}
        awaited = dispatcher.under_way(generation.model, [key for key in texts if key not in remembered])
        rest = {key: text for key, text in texts.items() if key not in remembered and key not in awaited}
        found = vector_cache.resolve(generation, rest, token, own_tokens, free=self._provider.free)
        self.result.vectors.update(remembered)
        self.result.vectors.update(found.known)
        self.in_flight_elsewhere = found.elsewhere
        if not self._provider.free:
            self.result.marked.update(found.send)
        cost.saved.by_dedupe += len(remembered) + len(awaited)
        cost.saved.by_cache += len(found.known)
        cost.alone.by_cache += len(found.known) - len(found.foreign)
        # Whose the texts are that this session has in hand is not known: as if they were others'.
        spared = {**found.foreign, **{key: texts[key] for key in texts if key in remembered or key in awaited}}
        cost.alone.spare(spared, found.send, self._provider.limits(generation.model))
        if found.send or awaited:
            task = self._task(found.send)
            task.max_batch = self._max_batches(found.send)
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
        """Return with how many texts in all each may be sent that was in a request which failed as a whole."""
        found: dict[bytes, int] = {}
        for document in self.result.prepared.documents:
            if most := self.claim.jobs[document.key].max_batch:
                found |= {key: min(most, found.get(key, most)) for key, _ in document.chunks if key in texts}
        if not self._provider.free:
            self._suspects = suspects.among(self.claim.generation.model.id, [*texts])
            found |= dict.fromkeys(self._suspects, 1)
        return found

    def accept(self, task: EmbeddingTask) -> None:
        """Take in what became of a task of this batch."""
        self._tasks.remove(task)
        self._add_usage(task.usage)
        outcome = task.result
        self.result.vectors.update(outcome.vectors)
        answered = [key for key in task.texts if key in outcome.vectors]
        self.result.sent.update(answered)
        self.result.cost.alone.count(task.texts[key] for key in answered)
        self._unsent.update(dict.fromkeys(task.unsent, Wait(task.pause, task.last_error)))
        for key, error in outcome.failures.items():
            if type(error) in (PoisonError, InvalidVectorError, RejectedError):
                self._failed_alone[key] = type(error) is not PoisonError
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
        """Have rows given back that lack a vector: for some seconds, or for as long as an unsent text has to wait."""
        failed = self.result.prepared.failures
        self.result.waiting = {
            document.key: self._wait(document, seconds)
            for document in self.result.prepared.documents
            if document.key not in failed and not self.result.complete(document)
        }

    def _wait(self, document: Document, seconds: float) -> Wait:
        unsent = [self._unsent[key] for key, _ in document.chunks if key in self._unsent]
        return max(unsent, key=lambda wait: wait.delay, default=Wait(seconds))

    def record_suspects(self) -> None:
        """Remember the texts that make a request fail, and forget those that passed."""
        if not self._provider.free:
            model = self.claim.generation.model.id
            suspects.note(model, self._failed_alone)
            suspects.clear(model, [key for key in self._suspects if key in self.result.sent])

    @property
    def under_way(self) -> bool:
        """True while a model has something of this batch."""
        return bool(self._tasks)

    @property
    def unwritten(self) -> bool:
        """True while a lock keeps the batch, which has all its answers, from being written."""
        return self.retry_at is not None

    def retry_later(self, seconds: float) -> None:
        """Note that a lock was in the way."""
        self.lock_failures += 1
        self.retry_at = time.monotonic() + seconds

    def is_to_be_retried(self) -> bool:
        """Tell whether it is time to try to write it again."""
        return self.retry_at is not None and time.monotonic() >= self.retry_at

    def is_to_be_saved(self) -> bool:
        """Tell whether answers came while others are out: they would be paid for again if the worker ended."""
        return not self._provider.free and bool(self._new())

    def save(self) -> None:
        """Keep the answers that came, until the batch is written."""
        new = self._new()
        vector_cache.keep(self.claim, owned(self.result, new))
        self.result.cached.update(new)

    def save_all(self) -> None:
        """Keep all answers until the batch is written, which a lock prevents: they outlive this worker."""
        if not self._provider.free:
            new = {key: vector for key, vector in self._answers().items() if key not in self.result.cached}
            vector_cache.keep(self.claim, owned(self.result, new))
            self.result.cached.update(new)

    def _answers(self) -> dict[bytes, AnyVector]:
        vectors = self.result.vectors
        return {key: vectors[key] for key in self.result.sent if key in vectors}

    def _new(self) -> dict[bytes, AnyVector]:
        cached = self.result.cached
        return {key: v for task in self._tasks for key, v in task.result.vectors.items() if key not in cached}

    def _last_error(self) -> ModelError | None:
        return next((task.last_error for task in self._tasks if task.last_error is not None), None)

    def is_to_be_explained(self) -> bool:
        """Tell whether the rows wait for their model, claim in hand, for a reason that was not said yet."""
        error = self._last_error()
        return error is not None and str(error) != self._shown_error

    def explain(self) -> None:
        """Say why they wait, for embed_status."""
        error = self._last_error()
        assert error is not None
        self._shown_error = str(error)
        claims.set_last_error(self.claim, str(error), error.scope)

    def is_to_be_renewed(self) -> bool:
        """Tell whether a third of the lease is over."""
        return time.monotonic() > self._renew_at

    def renew(self) -> None:
        """Keep the claim: its worker lives."""
        self._renew_at = time.monotonic() + self.claim.lease / 12  # where this fails
        claims.renew(self.claim, [*self.result.marked])
        self._renew_at = time.monotonic() + self.claim.lease / 3

    def abandon(self, delay: float, why: str | None = None) -> bool:
        """Give the claim back for some seconds, and keep what was paid for; False when some of it cannot be."""
        try:
            db.atomically(self._keep)
        except db.DatabaseError as error:
            if not is_disk_full(error):  # to say so takes less room
                raise
        self.record_suspects()
        end_flight(self.result)
        return claims.release_jobs(self.claim, [*self.claim.jobs], delay, why)

    def _keep(self) -> None:
        result = self.result
        vector_cache.keep(self.claim, owned(result, self._answers() | self._new()))
        record_usage(result)

    def log_done(self) -> None:
        """Log, where so much is asked for, that this batch is done."""
        claim = self.claim
        event_log.debug(
            "batch_done",
            pipeline=claim.pipeline.name,
            generation=claim.generation.id,
            lane="live" if claim.lane == LIVE else "backfill",
            rows=len(claim.jobs),
            **vars(self.result.cost.spent),
            failed=len(self.result.prepared.failures),
            seconds=round(time.monotonic() - self._started_at, 3),
        )


def _first_error(document: Document, failures: dict[bytes, ModelError]) -> ModelError | None:
    return next((failures[key] for key, _ in document.chunks if key in failures), None)
