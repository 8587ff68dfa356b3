"""The engine of workers and drains: the steps from a claim to its stored vectors; when to commit is the policy's.

| step      | what it does                                   | in                                                   |
|-----------|------------------------------------------------|------------------------------------------------------|
| look      | follow DDL, coalesce the change log            | ``ddl_sync``, ``change_log``                         |
| claim     | claim jobs and the cursors' next keys          | ``claims.claim``, by the policy                      |
| start     | prepare the rows, look up vectors, submit      | ``documents.prepare``, ``vector_cache``, dispatcher  |
| collect   | wait for answers                               | ``RequestDispatcher.poll``; not a transaction        |
| finish    | check the token, write, finish the jobs        | ``apply.finish``                                     |
| abandon   | release the jobs, cache the answers            | ``Batch.abandon``                                    |

``worker.Worker`` and ``batches.Batches`` run them for embed_work, ``drain.Drain`` for embed_drain. embed_claim uses
``look`` and a policy; its claims are finished by ``external_batch`` and ``external_submit``.
"""

from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import pipelines
from evergreen.core.embedding import EmbeddingTask
from evergreen.core.errors import RetryableError
from evergreen.core.job import ClaimRequest, Lane
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.step import Step
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.embedding.batching import rows_worth_claiming
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.limits import shared
from evergreen.embedding.limits.admission import Permit
from evergreen.embedding.providers.registry import provider
from evergreen.queue import claims
from evergreen.worker import model_change
from evergreen.worker.apply import budget, finish, without_gc
from evergreen.worker.batch import Batch
from evergreen.worker.commit_policy import CommitPolicy

T = TypeVar("T")
_BATCH = 1000  # rows of a claim, at most


def look(policy: CommitPolicy, pipeline_id: int, rows: int) -> Pipeline | None:
    """Follow the source's DDL and coalesce the log, for about so many rows; return the pipeline.

    None if it has no work, is not active or cannot be read.
    """
    if not policy.may_have_work(pipeline_id):
        return None
    found = pipelines.by_id(pipeline_id)
    if found is None or not policy.accepts(found):
        return None
    ready = ddl_sync.follow_and_repair(found)
    if ready is not None:
        policy.coalesce(ready, rows)
    return ready


class Engine:
    """Takes claims from the queue to the table; ``batches``: the claims in hand."""

    def __init__(self, policy: CommitPolicy, *, longest_wait: float, spools: bool = False) -> None:
        """``longest_wait``: seconds to wait for a rate limit while claims are in hand; ``spools``: see ``Batch``."""
        self._policy = policy
        self._spools = spools
        self.dispatcher = RequestDispatcher(
            shared.SharedLimits(), _model_step(policy.step), policy.on_tick, longest_wait=longest_wait
        )
        self.batches: list[Batch] = []
        self.on_other: Callable[[EmbeddingTask], None] = _ignore  # for tasks of no batch

    def look(self, pipeline_id: int, rows: int = _BATCH) -> Pipeline | None:
        """Look at a pipeline in one step, as ``look``."""
        return self._policy.step("look", lambda: look(self._policy, pipeline_id, rows))

    def unavailable(self, pipeline: Pipeline, generation: Generation) -> Permit | None:
        """Return why and how long nothing will be sent to a generation's model; None if it is available."""
        model = generation.model
        if changed := model_change.stopped(pipeline, generation):
            self.dispatcher.give_up(model)
            return changed
        return self.dispatcher.unavailable(provider(model.provider), model, budget(pipeline))

    def has_capacity(self, generation: Generation, lane: Lane) -> bool:
        """Return whether to claim more for a generation's model."""
        return self.dispatcher.has_capacity(provider(generation.model.provider), generation.model, lane)

    def room(self, generation: Generation) -> int:
        """Return how many rows are worth claiming at a time for a generation's model."""
        model = generation.model
        limits = self.dispatcher.limits(provider(model.provider), model)
        return rows_worth_claiming(limits, model.endpoint, _BATCH)

    def claim(self, wanted: ClaimRequest) -> Batch | None:
        """Claim rows; None if there are none. ``start`` the batch next."""
        claim = self._policy.step("claim", lambda: self._policy.claim(wanted, self.tokens()))
        return Batch(claim, spools=self._spools) if claim is not None else None

    def tokens(self) -> list[int]:
        """Return the tokens of the claims in hand."""
        return [batch.claim.token for batch in self.batches]

    def start(self, batch: Batch) -> None:
        """Prepare a batch and submit its texts; if none needs a model, no task of it is under way."""
        self.batches.append(batch)

        def start() -> None:
            with without_gc():
                batch.prepare()
                batch.resolve(self._policy.received(batch.claim.generation), self.dispatcher, self.tokens())

        self._policy.step("start", start)

    def resolve_again(self, batch: Batch) -> None:
        """Look again for vectors of texts that were in flight elsewhere, and submit the texts that are free now."""
        batch.resolve_again(self._policy.received(batch.claim.generation), self.dispatcher, self.tokens())

    def collect(self, timeout: float) -> list[Batch]:
        """Wait for answers; return the batches that have all of theirs."""
        done = self.dispatcher.poll(timeout)
        for task in done:
            if not isinstance(task.owner, Batch):
                self.on_other(task)
        return [self._accept(task) for task in done if isinstance(task.owner, Batch)]

    def cancel(self) -> None:
        """Cancel all requests; their batches keep the vectors that came."""
        for task in self.dispatcher.cancel_all():
            if isinstance(task.owner, Batch):
                self._accept(task)

    def _accept(self, task: EmbeddingTask) -> Batch:
        batch: Batch = task.owner
        batch.accept(task)
        self._policy.receive(batch.result)
        return batch

    def finish(self, batch: Batch) -> list[str]:
        """Write a batch and end its claim; return the keys of the rows that are now up to date."""
        return self._policy.step("finish", lambda: self._finish(batch))

    def _finish(self, batch: Batch) -> list[str]:
        if not model_change.is_current(batch.claim):
            batch.discard()
        batch.spool()
        batch.defer(self._policy.in_flight_retry)
        done = finish(batch.result)
        batch.record_suspects()
        batch.log_done()
        return done

    def abandon(self, batch: Batch, delay: float, why: str | None = None) -> None:
        """End a claim unwritten: its rows may be claimed again after a delay, and its answers go to the cache."""

        def abandon() -> None:
            if batch.abandon(delay, why) and batch.claim.leased:
                claims.delete_lease(batch.claim)

        self._policy.step("abandon", abandon)


def _ignore(_: EmbeddingTask) -> None:
    """Take a task that nothing waits for."""


def _model_step(step: Step) -> Step:
    """Make a step raise RetryableError for failed statements, except for a cancel or shutdown."""

    def guarded(name: str, body: Callable[[], T], /) -> T:
        try:
            return step(name, body)
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            raise RetryableError(db.message(error)) from error

    return guarded
