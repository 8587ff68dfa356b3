"""embed_wait: until what was committed before the call is searchable."""

import time
from dataclasses import replace

from evergreen import db
from evergreen.catalog import options, pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.db import privileges
from evergreen.db.errors import is_lock_unavailable
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.source import reader, row_security

SQL = load(__package__)
_SHORTEST, _LONGEST = 0.005, 0.1  # seconds between two looks
_SLICE = 0.02
_SHARE = 3.0  # of the time a look takes: where the log is long, looking is not most of what is done
_MOST = 86_400.0
_NO_KEY = "null"  # of no row: a key is an array


@frozen
class _Watch:
    """What is waited for: changes up to a moment, of one row or of all."""

    pipeline: int
    name: str
    key: str | None
    since: str
    wal: int | None  # where the WAL ended at that moment
    sweeping: bool  # a cursor was under way at that moment, and may not have come to the row
    seen_by: Pipeline | None = None  # to be waited for as the caller sees it: row security applies


@sql_entry
def embed_wait(pipeline: str | None, key: str | None, timeout: str | None) -> bool:
    """Wait; raises 25001 (also in the transaction that made the change), 22023, 22P02, 42501, 42704.

    Each look has a snapshot of its own, and gives up its locks; only that of the calling statement lasts. Where row
    security applies to the caller, a row that the caller may not see is no row.
    """
    privileges.check_isolation("embed_wait")
    deadline = time.monotonic() + options.seconds_of("timeout", timeout, 0.0, _MOST, "'10 s'")
    role = caller()
    watch = _begin(pipeline, key, role)
    pause = _SHORTEST
    while True:
        started = time.monotonic()
        answer = _look_as_caller(watch, watch.seen_by) if watch.seen_by is not None else _looked(watch)
        if answer is not None:
            return answer
        if not _sleep(max(pause, _SHARE * (time.monotonic() - started)), deadline):
            return False
        pause = min(1.5 * pause, _LONGEST)


def _sleep(seconds: float, deadline: float) -> bool:
    """Sleep so that a cancel is heeded; return False if the time is up."""
    until = min(time.monotonic() + seconds, deadline)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_SLICE, left))  # pg_sleep would keep a snapshot
        db.check_interrupts()
    return time.monotonic() < deadline


def _begin(pipeline: str | None, key: str | None, role: str) -> _Watch:
    """Note what is waited for. Who administers a pipeline is told of its dead letters anyway."""

    def note() -> tuple[_Watch, Pipeline, bool]:
        found = pipelines.readable(pipeline, role)
        return _watch(found, key), found, pipelines.may_own(role, found.owner)

    watch, found, administers = as_extension_owner(lambda: db.in_discarded_subtransaction(note))
    return watch if administers or not row_security.is_restricted(found) else replace(watch, seen_by=found)


def _looked(watch: _Watch) -> bool | None:
    return as_extension_owner(lambda: db.in_discarded_subtransaction(lambda: _look(watch)))


def _look_as_caller(watch: _Watch, pipeline: Pipeline) -> bool | None:
    """Look at the row, if the caller sees it; or at all rows that the caller sees."""
    try:
        if watch.key is None:
            return _look_at_seen_rows(watch, pipeline)
        return _looked(watch) if row_security.sees_any(pipeline, [watch.key]) else True
    except row_security.UnboundError:
        return False  # broken
    except db.DatabaseError as error:
        if not is_lock_unavailable(error):
            raise
        return None  # the table is locked just now


def _look_at_seen_rows(watch: _Watch, pipeline: Pipeline) -> bool | None:
    """Look at what concerns every row first: it becomes work on single rows, and not the other way round."""
    row = as_extension_owner(lambda: db.in_discarded_subtransaction(lambda: _state(replace(watch, key=_NO_KEY))))
    waits = row["waits"] or (watch.sweeping and row["swept"])
    if not waits:
        dead, waiting = as_extension_owner(lambda: db.in_discarded_subtransaction(lambda: _unfinished(watch)))
        if row_security.sees_any(pipeline, dead):
            return False
        waits = row_security.sees_any(pipeline, waiting)
    if not waits:
        return True
    return False if row["stopped"] else None


def _unfinished(watch: _Watch) -> tuple[list[str], list[str]]:
    rows = db.rows(SQL.unfinished_keys, watch.pipeline, watch.since, watch.sweeping)
    return [row["key"] for row in rows if row["dead"]], [row["key"] for row in rows if not row["dead"]]


def _watch(pipeline: Pipeline, key: str | None) -> _Watch:
    canonical = reader.canonical(pipeline, key) if key is not None else None
    start = db.one(SQL.state_at_call, pipeline.id, canonical)
    assert start is not None
    if start["own"]:
        what = f"row {canonical}" if canonical is not None else "rows"
        raise UserError(
            f'this transaction has changed {what} of pipeline "{pipeline.name}", which none but it sees yet',
            "25001",
            hint="COMMIT first, then call embed_wait().",
        )
    return _Watch(pipeline.id, pipeline.name, canonical, start["now"], start["wal"], start["sweeping"])


def _look(watch: _Watch) -> bool | None:
    """Return the answer, or None when there is none yet."""
    row = _state(watch)
    if row["dead"]:
        return False
    if not row["waits"] and not (watch.sweeping and _is_behind(watch, row)):
        return True
    return False if row["stopped"] else None


def _state(watch: _Watch) -> db.Row:
    """Return how things stand; has the WAL read where that is waited for."""
    row = db.one(SQL.state_of_change, watch.pipeline, watch.key, watch.since, watch.sweeping, watch.wal)
    if row is None:
        raise pipelines.missing(watch.name)
    if row["behind"] and not row["stopped"]:
        db.run(SQL.await_wal, watch.wal)
    return row


def _is_behind(watch: _Watch, row: db.Row) -> bool:
    """Return whether the backfill cursor has yet to reach a row without a queued change: compare it with the source."""
    if watch.key is None:
        return bool(row["swept"])
    if row["embedded_since"]:
        return False
    pipeline = pipelines.by_id(watch.pipeline)
    if pipeline is None:
        raise pipelines.missing(watch.name)
    key = watch.key
    found = reader.with_source_locked(pipeline, lambda: list(reader.read(pipeline, pipeline.active, [key])))
    return (found[0].src_hash if found else None) != row["src_hash"]
