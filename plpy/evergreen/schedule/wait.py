"""embed_wait: until what was committed before the call is searchable."""

import time
from dataclasses import dataclass

from evergreen import db
from evergreen.catalog import access, pipelines
from evergreen.catalog.pipelines import Pipeline
from evergreen.errors import UserError
from evergreen.gate import caller, elevated, entry
from evergreen.prepare import read
from evergreen.queries import load
from evergreen.schedule import arguments

SQL = load(__file__)

_SHORTEST, _LONGEST = 0.005, 0.1  # seconds between two looks
_SLICE = 0.02
_SHARE = 3.0  # of the time a look takes: where the log is long, looking is not most of what is done
_MOST = 86_400.0


@dataclass(frozen=True)
class _Watch:
    """What is waited for: changes up to a moment, of one row or of all."""

    pipeline: int
    name: str
    key: str | None
    since: str
    wal: int | None  # where the WAL ended at that moment
    sweeping: bool  # a cursor was under way at that moment, and may not have come to the row


@entry
def embed_wait(pipeline: str | None, key: str | None, timeout: str | None) -> bool:
    """Wait; raises 25001 (also in the transaction that made the change), 22023, 22P02, 42704.

    Each look has a snapshot of its own, and gives up its locks; only that of the calling statement lasts.
    """
    arguments.check_isolation("embed_wait")
    deadline = time.monotonic() + arguments.seconds_of("timeout", timeout, 0.0, _MOST, "'10 s'")
    role = caller()
    watch = elevated(lambda: db.released(lambda: _watch(access.readable(pipeline, role), key)))
    pause = _SHORTEST
    while True:
        started = time.monotonic()
        answer = elevated(lambda: db.released(lambda: _look(watch)))
        if answer is not None:
            return answer
        if not _sleep(max(pause, _SHARE * (time.monotonic() - started)), deadline):
            return False
        pause = min(1.5 * pause, _LONGEST)


def _sleep(seconds: float, deadline: float) -> bool:
    """Sleep so that a cancel is heeded; False when the time is up."""
    until = min(time.monotonic() + seconds, deadline)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_SLICE, left))  # pg_sleep would keep a snapshot
        db.check_interrupts()
    return time.monotonic() < deadline


def _watch(pipeline: Pipeline, key: str | None) -> _Watch:
    canonical = read.canonical(pipeline, key) if key is not None else None
    start = db.one(SQL.start, pipeline.id, canonical)
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
    row = db.one(SQL.look, watch.pipeline, watch.key, watch.since, watch.sweeping, watch.wal)
    if row is None:
        raise pipelines.missing(watch.name)
    if row["dead"]:
        return False
    if not row["waits"] and not (watch.sweeping and _is_behind(watch, row)):
        return True
    if row["stopped"]:
        return False
    if row["behind"]:
        db.run(SQL.await_wal, watch.wal)
    return None


def _is_behind(watch: _Watch, row: db.Row) -> bool:
    """Tell whether a row that no change waits for is one that a cursor has yet to come to: what does the source say?"""
    if watch.key is None:
        return bool(row["swept"])
    if row["embedded_since"]:
        return False
    pipeline = pipelines.by_id(watch.pipeline)
    if pipeline is None:
        raise pipelines.missing(watch.name)
    key = watch.key
    found = read.held(pipeline, lambda: list(read.read(pipeline.active, [key])))
    return (found[0].src_hash if found else None) != row["src_hash"]
