"""Usage and savings, recorded with their batch."""

from collections.abc import Iterable
from dataclasses import dataclass

from evergreen import db
from evergreen.core import text as text_module
from evergreen.core.embedding import Limits, Texts, Usage
from evergreen.core.job import Claim, Lane
from evergreen.core.pipeline import Generation, Model
from evergreen.db import event_log
from evergreen.db.errors import in_class
from evergreen.db.queries import load
from evergreen.embedding.batching import pack

SQL = load(__package__)
_MAX_USAGE_ROWS = 10_000
_UNWRITABLE = ("53", "55P03")  # the disk is full, or another session has locked the table
_MAX_LAG_ROWS = 10_000


@dataclass
class Saved:
    """Texts that were not sent: unchanged rows, texts embedded before, duplicates in one batch."""

    by_fingerprint: int = 0
    by_cache: int = 0
    by_dedupe: int = 0


@dataclass
class Alone:
    """What a batch would have cost without other owners' pipelines; these figures are shown to its owner (``alone_*``).

    Tokens are estimated for all texts: billed tokens would reveal which texts were sent.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    spared: int = 0  # tokens of texts not sent because other owners have them
    by_cache: int = 0
    by_dedupe: int = 0

    def count(self, texts: Iterable[str]) -> None:
        """Count texts that a model embedded."""
        for text in texts:
            self.texts += 1
            self.tokens += text_module.estimate_tokens(text)

    def spare(self, texts: Texts, sent: Texts, limits: Limits) -> None:
        """Count texts that other owners' vectors spared as if they had been sent too."""
        before = self.tokens
        self.calls += _requests({**sent, **texts}, limits) - _requests(sent, limits)
        self.count(texts.values())
        self.spared += self.tokens - before


def _requests(texts: Texts, limits: Limits) -> int:
    return sum(1 for _ in pack(texts, limits))


def record(generation: Generation, spent: Usage, saved: Saved, alone: Alone, *, free: bool) -> None:
    """Record what a batch cost; inserts only, so that workers and open drains do not block each other."""
    amounts = (spent.calls, spent.texts, spent.tokens, saved.by_fingerprint, saved.by_cache, saved.by_dedupe)
    if any(amounts):
        price = 0.0 if free else generation.model.price
        cost, alone_cost = (None if price is None else used.tokens * price for used in (spent, alone))
        own = (spent.calls + alone.calls, alone.texts, alone.tokens, alone_cost, alone.by_cache, alone.by_dedupe)
        db.run(SQL.record_usage, generation.pipeline, generation.model.id, *amounts, cost, *own)


def record_query_usage(pipeline_id: int | None, model: Model, spent: Usage, *, is_question: bool = True) -> None:
    """Record what a question cost, or a look at a model; it is answered even if nothing can be written."""
    if not spent.calls or not db.value(SQL.is_writable):
        return
    price = model.price
    cost = None if price is None else spent.tokens * price
    amounts = (spent.calls, spent.texts, spent.tokens)
    questions = spent.texts if is_question else 0
    try:
        db.atomically(lambda: db.run(SQL.record_query_usage, pipeline_id, model.id, *amounts, cost, questions))
    except db.DatabaseError as error:
        if not in_class(error, *_UNWRITABLE):
            raise
        event_log.warn("usage_not_recorded", model=model.name, **vars(spent))


def record_batch(
    pipeline_id: int,
    model: int,
    texts: int,
    tokens: int,
    cost: float | None,
    alone: tuple[int, int, float | None],
    *,
    calls: int = 0,
) -> None:
    """Record what results of a provider's batch cost; ``alone``: texts, tokens and cost, as shown to other roles."""
    if texts or calls or any(alone):
        db.run(SQL.record_batch_usage, pipeline_id, model, calls, texts, tokens, cost, *alone)


def delete(pipeline_id: int) -> None:
    """Delete usage and lag of a pipeline."""
    db.run(SQL.delete_usage, pipeline_id)


def aggregate() -> None:
    """Aggregate usage older than an hour into one row per hour, and the document counts."""
    db.run(SQL.delete_usage_of_dropped)
    db.run(SQL.aggregate_usage, _MAX_USAGE_ROWS)
    db.run(SQL.merge_document_counts)


def record_lag(claim: Claim, keys: list[str]) -> None:
    """Record the age of the changes behind these keys of a claim, one row for each batch and lane.

    Every committed change counts, live or bulk. Backfills, rebuilds and rechecks are no changes, and only the active
    generation is searched.
    """
    if claim.generation.state != "active":
        return
    jobs = [claim.jobs[key] for key in keys]
    for lane in Lane:
        since = [job.unserved_since for job in jobs if job.lane == lane and job.unserved_since is not None]
        if since:
            db.run(SQL.record_lag, claim.pipeline.id, lane, since)


def aggregate_lag() -> None:
    """Aggregate past minutes into one row each, and delete what is older than an hour."""
    db.run(SQL.delete_old_lag)
    db.run(SQL.aggregate_lag, _MAX_LAG_ROWS)
