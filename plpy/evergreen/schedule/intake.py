"""Intake: the change log becomes jobs, coalesced, in the statement that deletes the log rows."""

import time
from dataclasses import dataclass

from evergreen import db
from evergreen.catalog.pipelines import Pipeline
from evergreen.patience import patiently
from evergreen.queries import load

SQL = load(__file__)

_BATCH = 50_000
_ROUNDS = 100  # a hot row may have many log rows
_CAREFUL_KEYS = 2000
_CAREFUL_SECONDS = 1.0


@dataclass(frozen=True)
class Folded:
    """Log rows that are gone, and jobs that came of them."""

    rows: int
    jobs: int


def shared(pipeline: Pipeline) -> int:
    """Fold the log as a worker that commits right after; return the rows folded. Skipped while another does it."""
    row = db.one(SQL.lock, pipeline.id)
    if row is None:
        return 0
    folded = _fold(pipeline, str(row["floor"]), _BATCH).rows
    if folded:
        db.run(SQL.raise_floor, pipeline.id)
    return folded


def private(pipeline: Pipeline, limit: int) -> None:
    """Fold the log into at most about ``limit`` jobs inside a drain, which locks no row that workers share."""
    row = db.one(SQL.floor, pipeline.id)
    jobs = 0
    for _ in range(_ROUNDS if row is not None else 0):
        folded = _fold(pipeline, str(row["floor"] if row else ""), limit)
        jobs += folded.jobs
        if folded.rows < limit or jobs >= limit:
            return


def _fold(pipeline: Pipeline, floor: str, limit: int) -> Folded:
    db.run(SQL.fold_scopes, pipeline.id, floor)
    folded = _attempt(pipeline, floor, SQL.by_rows.text, limit=limit)
    if folded is not None:
        return folded
    # An open drain has queued one of these keys and did not commit: work around it.
    rows = db.rows(SQL.waiting_keys, pipeline.id, floor, min(limit, _CAREFUL_KEYS))
    return _around(pipeline, floor, [row["key"] for row in rows], time.monotonic() + _CAREFUL_SECONDS)


def _around(pipeline: Pipeline, floor: str, keys: list[str], until: float) -> Folded:
    """Fold keys, halving them where one is stuck, until that one is alone and left in the log."""
    if not keys or time.monotonic() > until:
        return Folded(0, 0)
    folded = _attempt(pipeline, floor, SQL.by_keys.text, keys=keys)
    if folded is not None:
        return folded
    if len(keys) == 1:
        return Folded(0, 0)
    middle = len(keys) // 2
    first, second = (_around(pipeline, floor, half, until) for half in (keys[:middle], keys[middle:]))
    return Folded(first.rows + second.rows, first.jobs + second.jobs)


def _attempt(
    pipeline: Pipeline, floor: str, choice: str, *, limit: int = 0, keys: list[str] | None = None
) -> Folded | None:
    query = SQL.fold.on(choice=choice)
    row = patiently(lambda: db.one(query, pipeline.id, floor, limit, keys or []), "5ms")
    return Folded(int(row["folded"]), int(row["added"])) if row is not None else None
