"""What was spent and what was saved, written down with the batch it was spent for."""

from dataclasses import dataclass

from evergreen import db
from evergreen.catalog.pipelines import Generation
from evergreen.model.order import Spent
from evergreen.queries import load

SQL = load(__file__)

_FOLDED_AT_ONCE = 10_000


@dataclass
class Saved:
    """Texts that were not sent: rows found unchanged, texts embedded before, the same text twice at once."""

    by_fingerprint: int = 0
    by_cache: int = 0
    by_dedupe: int = 0


def record(generation: Generation, spent: Spent, saved: Saved, *, free: bool) -> None:
    """Write down what a batch cost. Only inserts, so that workers and open drains do not meet."""
    amounts = (spent.calls, spent.texts, spent.tokens, saved.by_fingerprint, saved.by_cache, saved.by_dedupe)
    if any(amounts):
        price = 0.0 if free else generation.model.price
        cost = None if price is None else spent.tokens * price
        db.run(SQL.record, generation.pipeline, generation.model.id, *amounts, cost)


def fold() -> None:
    """Add up what is older than an hour, an hour a row; and the counts of documents."""
    db.run(SQL.drop_orphans)
    db.run(SQL.fold_hours, _FOLDED_AT_ONCE)
    db.run(SQL.fold_tally)
