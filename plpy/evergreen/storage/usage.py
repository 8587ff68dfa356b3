"""What was spent and what was saved, written down with the batch it was spent for."""

from collections.abc import Iterable
from dataclasses import dataclass

from evergreen import db
from evergreen.core import text as text_module
from evergreen.core.embedding import Limits, Texts, Usage
from evergreen.core.job import BACKFILL, LIVE, Claim
from evergreen.core.pipeline import Generation, Model
from evergreen.db import event_log
from evergreen.db.errors import in_class
from evergreen.db.queries import load
from evergreen.embedding.batching import pack

SQL = load(__package__)
_FOLDED_AT_ONCE = 10_000
_UNWRITABLE = ("53", "55P03")  # the disk is full, or somebody has locked the table
_LAG_ROWS_FOLDED = 10_000


@dataclass
class Saved:
    """Texts that were not sent: rows found unchanged, texts embedded before, the same text twice at once."""

    by_fingerprint: int = 0
    by_cache: int = 0
    by_dedupe: int = 0


@dataclass
class Alone:
    """What a batch would have cost without the pipelines of other owners; what its owner is told of it.

    Tokens are estimated for all texts alike: what a provider bills for a text would tell whether it was sent.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    spared: int = 0  # tokens of texts that were not sent, thanks to others
    by_cache: int = 0
    by_dedupe: int = 0

    def count(self, texts: Iterable[str]) -> None:
        """Count texts that a model answered for."""
        for text in texts:
            self.texts += 1
            self.tokens += text_module.estimate_tokens(text)

    def spare(self, texts: Texts, sent: Texts, limits: Limits) -> None:
        """Count texts that were not sent, thanks to others, as if they had been sent with those that were."""
        before = self.tokens
        self.calls += _requests({**sent, **texts}, limits) - _requests(sent, limits)
        self.count(texts.values())
        self.spared += self.tokens - before


def _requests(texts: Texts, limits: Limits) -> int:
    return sum(1 for _ in pack(texts, limits))


def record(generation: Generation, spent: Usage, saved: Saved, alone: Alone, *, free: bool) -> None:
    """Write down what a batch cost. Only inserts, so that workers and open drains do not meet."""
    amounts = (spent.calls, spent.texts, spent.tokens, saved.by_fingerprint, saved.by_cache, saved.by_dedupe)
    if any(amounts):
        price = 0.0 if free else generation.model.price
        cost, alone_cost = (None if price is None else used.tokens * price for used in (spent, alone))
        own = (spent.calls + alone.calls, alone.texts, alone.tokens, alone_cost, alone.by_cache, alone.by_dedupe)
        db.run(SQL.record_usage, generation.pipeline, generation.model.id, *amounts, cost, *own)


def record_questions(pipeline: int | None, model: Model, spent: Usage) -> None:
    """Write down what a question cost; where nothing can be written the question is answered all the same."""
    if not spent.calls or not db.value(SQL.may_write):
        return
    price = model.price
    cost = None if price is None else spent.tokens * price
    amounts = (spent.calls, spent.texts, spent.tokens)
    try:
        db.atomically(lambda: db.run(SQL.record_questions, pipeline, model.id, *amounts, cost))
    except db.DatabaseError as error:
        if not in_class(error, *_UNWRITABLE):
            raise
        event_log.warn("usage_not_recorded", model=model.name, **vars(spent))


def fold() -> None:
    """Add up what is older than an hour, an hour a row; and the counts of documents."""
    db.run(SQL.drop_orphaned_usage)
    db.run(SQL.fold_hours, _FOLDED_AT_ONCE)
    db.run(SQL.fold_document_counts)


def record_lag(claim: Claim, keys: list[str]) -> None:
    """Record how old the changes are that these keys of a claim were queued for; a row a batch and lane.

    Every committed change counts, live or bulk. History (backfills, rebuilds, rechecks) changed nothing, and nobody
    searches a generation that is not the active one.
    """
    if claim.generation.state != "active":
        return
    jobs = [claim.jobs[key] for key in keys]
    for lane in (LIVE, BACKFILL):
        since = [job.unserved_since for job in jobs if job.lane == lane and job.unserved_since is not None]
        if since:
            db.run(SQL.record_lag, claim.pipeline.id, lane, since)


def fold_lag() -> None:
    """Add up minutes that are over, a minute a row, and drop what is older than an hour."""
    db.run(SQL.drop_old_lag)
    db.run(SQL.fold_minutes, _LAG_ROWS_FOLDED)
