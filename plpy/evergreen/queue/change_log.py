"""Coalesces the change log into jobs, in the statement that deletes the log rows."""

import time
from dataclasses import dataclass

from evergreen import db
from evergreen.catalog import options
from evergreen.core.job import Lane
from evergreen.core.pipeline import Pipeline
from evergreen.core.retry import bisect
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.queue.scan_start import ScanStart, SnapshotMark

SQL = load(__package__)
_MAX_LOG_ROWS = 50_000
_MAX_ROUNDS = 100  # a hot row may have many log rows
_AROUND_LOCKS_KEYS = 2000
_AROUND_LOCKS_S = 1.0


@dataclass(frozen=True)
class Coalesced:
    """Log rows deleted, jobs added, and rows read; None if not all of them were read."""

    rows: int
    jobs: int
    taken: int | None = None


@dataclass(frozen=True)
class _Look:
    """Which log rows to read: ``choice`` of them, from a transaction id on, and some earlier ones."""

    choice: str
    floor: str
    earlier: tuple[int, ...] = ()


def create(pipeline: int) -> None:
    """Create the row that ``coalesce`` locks."""
    db.run(SQL.insert_change_log_state, pipeline)


def log_scope(pipeline: int, scope: str) -> None:
    """Queue a check of every document of a pipeline (scope 'document'), or also of every source row ('source')."""
    db.run(SQL.log_scope, pipeline, scope)


def log_keys(pipeline: int, keys: list[str]) -> None:
    """Queue a check of rows."""
    db.run(SQL.log_keys, pipeline, keys)


def make_missing() -> None:
    """Create the queue's rows that a partial restore left out; a missing cursor restarts the backfill."""
    db.run(SQL.insert_missing_change_log_states)
    db.run(SQL.make_missing_scans)


def coalesce(pipeline: Pipeline, floor: ScanStart) -> int:
    """Coalesce the log for a worker that commits at once; return the log rows. Skipped while another worker does it."""
    row = db.one(SQL.lock_change_log, pipeline.id)
    if row is None:
        return 0
    known = floor.known()
    look = _Look(SQL.by_rows.text, str(row["floor"]))
    if known is not None:
        look = _Look(SQL.by_news.text, str(known.end), known.open)
    # Before the first statement: each later one has a newer snapshot, and rows in between are read again.
    seen = SnapshotMark.parse(str(db.value(SQL.snapshot)))
    coalesced = floor.timed(
        lambda: _coalesce(pipeline, look, _MAX_LOG_ROWS), lambda done: done.rows, from_start=known is None
    )
    if coalesced.taken is None or coalesced.taken >= _MAX_LOG_ROWS:
        floor.due_at = 0.0  # there is more
    else:
        floor.seen = seen
    if coalesced.rows and known is None and floor.is_to_be_raised():
        db.run(SQL.raise_floor, pipeline.id)
    return coalesced.rows


def coalesce_in_transaction(pipeline: Pipeline, limit: int) -> None:
    """Coalesce the log into about ``limit`` jobs inside a drain, which locks no row that workers share."""
    row = db.one(SQL.floor, pipeline.id)
    jobs = 0
    for _ in range(_MAX_ROUNDS if row is not None else 0):
        coalesced = _coalesce(pipeline, _Look(SQL.by_rows.text, str(row["floor"] if row else "")), limit)
        jobs += coalesced.jobs
        if coalesced.rows < limit or jobs >= limit:
            return


def _coalesce(pipeline: Pipeline, look: _Look, limit: int) -> Coalesced:
    db.run(
        SQL.fold_scopes.with_identifiers(choice=look.choice),
        pipeline.id,
        look.floor,
        _MAX_LOG_ROWS,
        [],
        list(look.earlier),
    )
    coalesced = _attempt(pipeline, look, limit=limit)
    if coalesced is not None:
        return coalesced
    # An open drain has queued one of these keys uncommitted: work around it.
    rows = db.rows(SQL.waiting_keys, pipeline.id, look.floor, min(limit, _AROUND_LOCKS_KEYS))
    return _coalesce_around_locks(
        pipeline, look.floor, [row["key"] for row in rows], time.monotonic() + _AROUND_LOCKS_S
    )


def _coalesce_around_locks(pipeline: Pipeline, floor: str, keys: list[str], until: float) -> Coalesced:
    """Coalesce keys; a key that another session has locked stays in the log."""
    done: list[Coalesced] = []

    def attempt(part: list[str]) -> bool:
        coalesced = _attempt(pipeline, _Look(SQL.by_keys.text, floor), keys=part)
        done.extend([] if coalesced is None else [coalesced])
        return coalesced is not None

    bisect(keys, attempt, deadline=until)
    return Coalesced(sum(one.rows for one in done), sum(one.jobs for one in done))


def _attempt(pipeline: Pipeline, look: _Look, *, limit: int = 0, keys: list[str] | None = None) -> Coalesced | None:
    query = SQL.fold.with_identifiers(choice=look.choice)
    arguments = (pipeline.id, look.floor, limit, keys or [], list(look.earlier), _bulk_lane(pipeline))
    row = with_lock_timeout(lambda: db.one(query, *arguments), "5ms")
    return Coalesced(int(row["folded"]), int(row["added"]), int(row["taken"])) if row is not None else None


def _bulk_lane(pipeline: Pipeline) -> Lane:
    """Return the lane of changes made by a transaction of more than 1,000 rows."""
    return Lane.LIVE if options.effective(pipeline.options, "bulk_lane") == "live" else Lane.BACKFILL
