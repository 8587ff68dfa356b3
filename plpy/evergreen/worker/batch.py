"""One claim on its way: prepared, sorted, embedded; the drain and the worker differ only in when they commit."""

import time

from evergreen import db
from evergreen.catalog import options
from evergreen.core.document import BatchResult, Document
from evergreen.core.embedding import AnyVector, Budget, EmbeddingTask, Texts, Usage
from evergreen.core.errors import InvalidVectorError, ModelError, PoisonError, RejectedError, RetryableError
from evergreen.core.job import LIVE, Claim
from evergreen.core.pipeline import Model, Pipeline
from evergreen.db import event_log
from evergreen.embedding import suspects
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.limits import budget as budgets
from evergreen.embedding.providers.registry import provider
from evergreen.prepare.documents import prepare
from evergreen.queue import claims
from evergreen.storage import usage, vector_cache
from evergreen.storage.usage import Alone, Saved
from evergreen.storage.vector_cache import drop_kept, keep
from evergreen.worker import policies


def budget(pipeline: Pipeline) -> Budget | None:
    """Return what a pipeline may spend a day, if that is limited."""
    tokens, cost = (options.effective(pipeline.options, name) for name in ("daily_tokens", "daily_cost"))
    return Budget(pipeline.id, tokens, cost) if tokens is not None or cost is not None else None


def charge(pipeline: Pipeline, model: Model, tokens: int) -> None:
    """Charge the day's budget for texts that vectors of other owners spared: what is left would tell which."""
    try:
        budgets.adjust(budget(pipeline), model, tokens)
    except RetryableError as error:  # a session sits on the budget's lock, and nothing was spent
        event_log.info("budget_not_charged", pipeline=pipeline.name, tokens=tokens, reason=str(error))


class Batch:
    """The texts of a claim and what is known of them."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.result: BatchResult
        self.prepared = False
        self.elsewhere: Texts = {}
        self._orders: list[EmbeddingTask] = []  # at the courier's
        self._begun_at = self._renewed_at = time.monotonic()
        self._kept: set[bytes] = set()  # texts whose vectors are in the cache, until all can be written
        self._provider = provider(claim.generation.model.provider)
        self._marked: set[bytes] = set()
        # Texts that were given up without a try, with the pause they need and what is in their way.
        self._unsent: dict[bytes, tuple[float, ModelError | None]] = {}
        self._explained: str | None = None  # why rows wait with the claim in hand, as it was said
        self._spent: list[Usage] = []
        self._saved = Saved()
        self._suspects: dict[bytes, bool] = {}  # texts that are sent alone, and whether they were answered
        self._culprits: dict[bytes, bool] = {}  # texts that failed alone
        self._alone = Alone()

    def prepare(self) -> None:
        """Read the rows and cut their texts; give back what there is no room for."""
        prepared = prepare(self.claim.pipeline, self.claim.generation, [*self.claim.jobs])
        self.result = BatchResult(self.claim, prepared)
        self._put_back(prepared.unread, 0.0)
        self.prepared = True

    def sort(self, memory: dict[bytes, AnyVector], courier: RequestDispatcher, own_tokens: list[int]) -> None:
        """Find out which texts need a call, and give those to the courier.

        ``memory``: vectors that this drain got already and did not write yet.
        """
        chunks = [(key, text) for d in self.result.prepared.documents for key, text in d.chunks]
        needed: Texts = dict(chunks)
        self._saved.by_fingerprint = self.result.prepared.unchanged
        self._saved.by_dedupe = self._alone.by_dedupe = len(chunks) - len(needed)
        self._sort(needed, memory, courier, own_tokens)

    def sort_again(self, memory: dict[bytes, AnyVector], courier: RequestDispatcher, own_tokens: list[int]) -> None:
        """Look once more at what was in flight elsewhere."""
        self._sort(self.elsewhere, memory, courier, own_tokens)

    def _sort(
        self, texts: Texts, memory: dict[bytes, AnyVector], courier: RequestDispatcher, own_tokens: list[int]
    ) -> None:
        generation, token = self.claim.generation, self.claim.token
        remembered = {key: memory[key] for key in texts if key in memory}
        follow = courier.under_way(generation.model, [key for key in texts if key not in remembered])
        rest = {key: text for key, text in texts.items() if key not in remembered and key not in follow}
        found = vector_cache.resolve(generation, rest, token, own_tokens, free=self._provider.free)
        self.result.vectors.update(remembered)
        self.result.vectors.update(found.known)
        self.elsewhere = found.elsewhere
        self._marked.update(found.send)
        self._saved.by_dedupe += len(remembered) + len(follow)
        self._saved.by_cache += len(found.known)
        self._alone.by_cache += len(found.known) - len(found.foreign)
        # Whose the texts are that this session has in hand is not known: as if they were others'.
        spared = {**found.foreign, **{key: texts[key] for key in texts if key in remembered or key in follow}}
        self._alone.spare(spared, found.send, self._provider.limits(generation.model))
        if found.send or follow:
            order = self._order(found.send)
            order.max_batch = self._company(found.send)
            order.canary_first = not any(self._suspects.values())
            self._orders.append(order)
            courier.submit(order, follow, self)

    def _order(self, texts: Texts) -> EmbeddingTask:
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

    def _company(self, texts: Texts) -> dict[bytes, int]:
        """Return with how many texts in all each may be sent that was in a request which failed as a whole."""
        found: dict[bytes, int] = {}
        for document in self.result.prepared.documents:
            if most := self.claim.jobs[document.key].max_batch:
                found |= {key: min(most, found.get(key, most)) for key, _ in document.chunks if key in texts}
        if not self._provider.free:
            self._suspects = suspects.among(self.claim.generation.model.id, [*texts])
            found |= dict.fromkeys(self._suspects, 1)
        return found

    def take_in(self, order: EmbeddingTask) -> None:
        """Take in what became of an order of this batch."""
        self._orders.remove(order)
        self._spent.append(order.usage)
        outcome = order.result
        self.result.vectors.update(outcome.vectors)
        answered = [key for key in order.texts if key in outcome.vectors]
        self.result.sent.update(answered)
        self._alone.count(order.texts[key] for key in answered)
        self._unsent.update(dict.fromkeys(order.unsent, (order.pause, order.last_error)))
        for key, error in outcome.failures.items():
            if type(error) in (PoisonError, InvalidVectorError, RejectedError):
                self._culprits[key] = type(error) is not PoisonError
        for document in self.result.prepared.documents:
            error = _first_error(document, outcome.failures)
            if error is not None:
                self.result.prepared.failures[document.key] = error

    def postpone(self, seconds: float) -> None:
        """Give back the keys with a text that is in flight elsewhere, for some seconds, or was not sent."""
        failed = self.result.prepared.failures
        waiting = [d for d in self.result.prepared.documents if d.key not in failed and not self.result.complete(d)]
        by_reason: dict[tuple[float, ModelError | None], list[str]] = {}
        for document in waiting:
            unsent = [self._unsent[key] for key, _ in document.chunks if key in self._unsent]
            reason = max(unsent, key=lambda one: one[0], default=(seconds, None))
            by_reason.setdefault(reason, []).append(document.key)
        for (pause, trouble), keys in by_reason.items():
            self._put_back(keys, pause, trouble)
            self.result.postponed.update(keys)

    def _put_back(self, keys: list[str], pause: float, trouble: ModelError | None = None) -> None:
        why = (None, "row") if trouble is None else (str(trouble), trouble.scope)
        if not claims.release_jobs(self.claim, keys, pause, *why):
            self.result.lost = True

    def land(self) -> None:
        """Take every text that was marked out of flight, and remember those that spoil a request."""
        if not self._provider.free:
            model = self.claim.generation.model.id
            suspects.note(model, self._culprits)
            suspects.clear(model, [key for key in self._suspects if key in self.result.sent])
            vector_cache.clear_in_flight(self.claim.generation, [*self._marked], self.claim.token)

    @property
    def under_way(self) -> bool:
        """True while a model has something of this batch."""
        return bool(self._orders)

    def is_to_be_saved(self) -> bool:
        """Tell whether answers came while others are out: they would be paid for again if the worker ended."""
        return not self._provider.free and bool(self._new())

    def save(self) -> None:
        """Keep the answers that came, until the batch is written."""
        new = self._new()
        keep(self.result, new)
        self._kept.update(new)

    def _new(self) -> dict[bytes, AnyVector]:
        return {key: v for order in self._orders for key, v in order.result.vectors.items() if key not in self._kept}

    def drop_saved(self) -> None:
        """The batch is written: what was kept of it lives there."""
        drop_kept(self.result, [*self._kept])

    def _trouble(self) -> ModelError | None:
        return next((order.last_error for order in self._orders if order.last_error is not None), None)

    def is_to_be_explained(self) -> bool:
        """Tell whether the rows wait for their model, claim in hand, for a reason that was not said yet."""
        trouble = self._trouble()
        return trouble is not None and str(trouble) != self._explained

    def explain(self) -> None:
        """Say why they wait, for embed_status."""
        trouble = self._trouble()
        assert trouble is not None
        self._explained = str(trouble)
        claims.set_last_error(self.claim, str(trouble), trouble.scope)

    def is_to_be_renewed(self) -> bool:
        """Tell whether a third of the lease is over."""
        return time.monotonic() > self._renewed_at + self.claim.lease / 3

    def renew(self) -> None:
        """Keep the claim: its worker lives."""
        self._renewed_at = time.monotonic()
        claims.renew(self.claim, [*self._marked])

    def abandon(self, pause: float, why: str | None = None) -> bool:
        """Give the claim back for some seconds, and keep what was paid for; False when some of it cannot be."""
        if self.prepared:
            try:
                db.atomically(self._keep)
            except db.DatabaseError as error:
                if not policies.is_disk_full(error):  # to say so takes less room
                    raise
        self.land()
        return claims.release_jobs(self.claim, [*self.claim.jobs], pause, why)

    def _keep(self) -> None:
        keep(self.result, {key: self.result.vectors[key] for key in self.result.sent} | self._new())
        self.account()

    def account(self) -> None:
        """Write down what this batch cost and saved."""
        spent = Usage(*(sum(getattr(one, name) for one in self._spent) for name in ("calls", "texts", "tokens")))
        usage.record(self.claim.generation, spent, self._saved, self._alone, free=self._provider.free)
        charge(self.claim.pipeline, self.claim.generation.model, self._alone.spared)

    def tell(self) -> None:
        """Say in the log, where it is asked for so much, that this batch is done."""
        claim = self.claim
        event_log.debug(
            "batch_done",
            pipeline=claim.pipeline.name,
            generation=claim.generation.id,
            lane="live" if claim.lane == LIVE else "backfill",
            rows=len(claim.jobs),
            **{name: sum(getattr(one, name) for one in self._spent) for name in ("calls", "texts", "tokens")},
            failed=len(self.result.prepared.failures),
            seconds=round(time.monotonic() - self._begun_at, 3),
        )


def _first_error(document: Document, failures: dict[bytes, ModelError]) -> ModelError | None:
    return next((failures[key] for key, _ in document.chunks if key in failures), None)
