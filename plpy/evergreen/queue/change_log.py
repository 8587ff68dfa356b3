"""Coalesces the change log into jobs, in the statement that deletes the log rows."""

import time

from evergreen import db
from evergreen.catalog import options
from evergreen.core.frozen import frozen
from evergreen.core.job import Lane
from evergreen.core.pipeline import Pipeline
from evergreen.core.retry import bisect
from evergreen.db import snapshots
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.queue import links
from evergreen.queue.scan_start import ScanStart, SnapshotMark

SQL = load(__package__, "change_log")
_MAX_LOG_ROWS = 50_000
_MAX_ROUNDS = 100  # a hot row may have many log rows
_AROUND_LOCKS_KEYS = 2000
_AROUND_LOCKS_S = 1.0


@frozen
class Coalesced:
    """Log rows deleted, jobs added, and rows read; None if not all of them were read."""

    rows: int
    jobs: int
    taken: int | None = None


@frozen
class _Selection:
    """Which log rows to coalesce: those that meet ``condition``, from a transaction id on, and of some earlier ones."""

    condition: str
    start: str
    earlier: tuple[int, ...] = ()


def create(pipeline_id: int) -> None:
    """Create the row that ``coalesce`` locks."""
    db.run(SQL.insert_change_log_state, pipeline_id)


def delete(pipeline_id: int) -> None:
    """Delete the change log of a pipeline, and its state."""
    db.run(SQL.delete_change_log, pipeline_id)


def reset_scan_start(pipeline_id: int) -> None:
    """Scan the whole log next time: transaction ids of another server mean nothing here."""
    db.run(SQL.reset_scan_start, pipeline_id)


def log_scope(pipeline_id: int, scope: str) -> None:
    """Queue a check of every document of a pipeline (scope 'document'), or also of every source row ('source')."""
    db.run(SQL.log_scope, pipeline_id, scope)


def log_keys(pipeline_id: int, keys: list[str]) -> None:
    """Queue a check of rows."""
    db.run(SQL.log_keys, pipeline_id, keys)


def log_from_wal(pipeline_id: int, key: str, changes: str) -> None:
    """Log changes read from the WAL; ``key``: the SQL expression for the key of one, ``e``, in the JSON array."""
    db.run(SQL.log_keys_from_wal.with_identifiers(key=key), pipeline_id, changes)


def touch(pipeline_id: int, keys: list[str], *, wake: bool) -> int:
    """Queue a check of rows as their change would; with ``wake``, wake a sleeping worker. Return the number of rows."""
    return db.run(SQL.touch_keys, pipeline_id, keys, wake)


def make_missing() -> None:
    """Create the queue's rows that a partial restore left out; a missing cursor restarts the backfill."""
    db.run(SQL.insert_missing_change_log_states)
    db.run(SQL.insert_missing_cursors)


def coalesce(pipeline: Pipeline, scan_start: ScanStart) -> int:
    """Coalesce the log for a worker that commits at once; return the log rows. Skipped while another worker does it."""
    row = db.one(SQL.lock_change_log, pipeline.id)
    if row is None:
        return 0
    known = scan_start.known()
    selection = _Selection(SQL.oldest_rows.text, str(row["scan_start"]))
    if known is not None:
        selection = _Selection(SQL.new_rows.text, str(known.end), known.open)
    has_more_links = _follow_links(pipeline, selection)
    # Before the first statement: each later one has a newer snapshot, and rows in between are read again.
    seen = SnapshotMark.of(snapshots.current())
    coalesced = scan_start.timed(
        lambda: _coalesce(pipeline, selection, _MAX_LOG_ROWS), lambda done: done.rows, from_start=known is None
    )
    if has_more_links or coalesced.taken is None or coalesced.taken >= _MAX_LOG_ROWS:
        scan_start.due_at = 0.0  # there is more
    else:
        scan_start.seen = seen
    if coalesced.rows and known is None and scan_start.is_advance_due():
        db.run(SQL.advance_scan_start, pipeline.id)
    return coalesced.rows


def coalesce_in_transaction(pipeline: Pipeline, limit: int) -> None:
    """Coalesce the log into about ``limit`` jobs inside a drain, which locks no row that workers share."""
    row = db.one(SQL.read_scan_start, pipeline.id)
    if row is None:
        return
    selection = _Selection(SQL.oldest_rows.text, str(row["scan_start"]))
    _follow_links(pipeline, selection)
    jobs = 0
    for _ in range(_MAX_ROUNDS):
        coalesced = _coalesce(pipeline, selection, limit)
        jobs += coalesced.jobs
        if coalesced.rows < limit or jobs >= limit:
            return


def _follow_links(pipeline: Pipeline, selection: _Selection) -> bool:
    """Log the keys of a view's rows that changes of its tables concern; return whether there may be more changes."""
    if not pipeline.links:
        return False
    no_keys: list[str] = []
    arguments = (pipeline.id, selection.start, _MAX_LOG_ROWS, no_keys, list(selection.earlier))
    queued = links.queue(selection.condition, arguments)
    links.expand(pipeline, _bulk_lane(pipeline))
    return queued >= _MAX_LOG_ROWS


def _coalesce(pipeline: Pipeline, selection: _Selection, limit: int) -> Coalesced:
    db.run(
        SQL.coalesce_scopes.with_identifiers(condition=selection.condition),
        pipeline.id,
        selection.start,
        _MAX_LOG_ROWS,
        [],
        list(selection.earlier),
    )
    coalesced = _attempt(pipeline, selection, limit=limit)
    if coalesced is not None:
        return coalesced
    # An open drain has queued one of these keys uncommitted: work around it.
    rows = db.rows(SQL.oldest_keys, pipeline.id, selection.start, min(limit, _AROUND_LOCKS_KEYS))
    return _coalesce_around_locks(
        pipeline, selection.start, [row["key"] for row in rows], time.monotonic() + _AROUND_LOCKS_S
    )


def _coalesce_around_locks(pipeline: Pipeline, start: str, keys: list[str], until: float) -> Coalesced:
    """Coalesce keys; a key that another session has locked stays in the log."""
    done: list[Coalesced] = []

    def attempt(part: list[str]) -> bool:
        coalesced = _attempt(pipeline, _Selection(SQL.rows_of_keys.text, start), keys=part)
        done.extend([] if coalesced is None else [coalesced])
        return coalesced is not None

    bisect(keys, attempt, deadline=until)
    return Coalesced(sum(one.rows for one in done), sum(one.jobs for one in done))


def _attempt(
    pipeline: Pipeline, selection: _Selection, *, limit: int = 0, keys: list[str] | None = None
) -> Coalesced | None:
    query = SQL.coalesce.with_identifiers(condition=selection.condition)
    arguments = (pipeline.id, selection.start, limit, keys or [], list(selection.earlier), _bulk_lane(pipeline))
    row = with_lock_timeout(lambda: db.one(query, *arguments), "5ms")
    return Coalesced(int(row["folded"]), int(row["added"]), int(row["taken"])) if row is not None else None


def _bulk_lane(pipeline: Pipeline) -> Lane:
    """Return the lane of bulk changes."""
    return Lane.LIVE if options.effective(pipeline.options, "bulk_lane") == "live" else Lane.BACKFILL
