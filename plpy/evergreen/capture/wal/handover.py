"""How a table comes to be read from the WAL, and ceases to be, without a change that nobody captures on the way.

A table is put in the publication (joining); transactions that were running then come to their end, and the WAL is read
beyond them (settling); from there on each change is read, and what captured until then is taken away (reading).
"""

from functools import partial

from evergreen import db
from evergreen.capture import ddl_sync, generated, partitions, triggers
from evergreen.capture.triggers import own_ddl
from evergreen.capture.wal import slot
from evergreen.catalog import pipelines
from evergreen.core.pipeline import Pipeline
from evergreen.db.errors import is_lock_unavailable, is_object_in_use, is_undefined_table
from evergreen.db.queries import load
from evergreen.queue import change_log
from evergreen.source import table
from evergreen.source.table import Source

SQL = load(__package__)


def drop_slot(reason: str) -> None:
    """Give up the slot: whoever was read is to be read anew, and checked."""
    db.run(SQL.lose, reason)
    db.run(SQL.forget_positions)
    db.rows(SQL.drop_slot)


def drop_unused() -> None:
    """Nobody needs the slot any more."""
    slot.unpublish_unused()
    db.run(SQL.forget_positions)
    db.rows(SQL.drop_slot)
    db.ddl(SQL.drop_publication)


def drop_if_unused() -> None:
    """As sweep, unless the slot is needed; what cannot be done now is left to a worker."""
    if db.value(SQL.is_needed):
        return
    try:
        db.atomically(drop_unused)
    except db.DatabaseError as error:
        if not (is_object_in_use(error) or is_lock_unavailable(error)):
            raise
        db.notice("the replication slot is in use just now: the next worker drops it")


def prepare(*, published: bool) -> None:
    """Make the publication and take in pipelines that came with a restore: what must be there before the slot is."""
    db.run(SQL.adopt)
    if not published:
        slot.create_publication()


def of_state(state: str) -> list[int]:
    """The pipelines in a state."""
    return [row["pipeline"] for row in db.rows(SQL.of_state, state)]


def join(number: int) -> bool:
    """Put a pipeline's table, which is wanted, in the publication; True when it was."""
    if db.one(SQL.hold, number, "wanted") is None:
        return False
    found = _fit(number)
    if found is None:
        return False
    pipeline, source, unfit = found
    if unfit is not None:
        db.run(SQL.set_unable, pipeline.id, unfit)
    elif _undisturbed(source, partial(slot.publish, source)):
        db.run(SQL.set_joining, pipeline.id)
    else:
        return False
    return True


def _fit(number: int) -> tuple[Pipeline, Source, str | None] | None:
    """A pipeline and its source as they are now, and why that cannot be read; None where it cannot be worked on."""
    known = pipelines.by_id(number)
    pipeline = ddl_sync.check(known) if known is not None else None
    source = table.describe(pipeline.source) if pipeline is not None else None
    if pipeline is None or source is None:
        return None
    return pipeline, source, db.value(SQL.unfit, source.oid, [c.attnum for c in source.key])


def _undisturbed(source: Source, body: partial[object]) -> bool:
    """Do our DDL on a table; False when that would have kept its writers waiting."""

    def step() -> None:
        db.run(SQL.short_locks)
        body()

    try:
        with own_ddl(source.oid):
            db.atomically(step)
    except db.DatabaseError as error:
        if not (is_lock_unavailable(error) or is_undefined_table(error)):  # it may be renamed just now
            raise
        return False
    return True


def retry_unsupported(number: int) -> bool:
    """See to one that triggers capture, as its replica identity does not do; True when something changed."""
    held = db.one(SQL.hold, number, "unable")
    if held is None:
        return False
    found = _fit(number)
    if found is None:
        return False
    pipeline, source, unfit = found
    if held["checks"]:
        if not _undisturbed(source, partial(_capture, pipeline, source)):
            return False
        change_log.log_scope(pipeline.id, "source")
        db.run(SQL.set_checked, pipeline.id)
        return True
    if unfit is None:
        db.run(SQL.set_wanted, pipeline.id)
        return True
    return False


def _capture(pipeline: Pipeline, source: Source) -> None:
    generated.create_functions(pipeline, source)
    triggers.install(pipeline, source)


def move_on(read: str) -> bool:
    """Bring those that are on their way a step further, after reading up to there; True when one came further."""
    moved = db.run(SQL.settle) + db.run(SQL.mark_horizon) + db.run(SQL.leave, read)
    slot.unpublish_unused()
    return moved > 0


def settled(read: str) -> list[int]:
    """Those that can begin, after reading up to there."""
    return [row["pipeline"] for row in db.rows(SQL.settled, read)]


def begin(number: int) -> bool:
    """From now on a pipeline's changes are read, so what captured until now goes; False when it has to wait."""
    pipeline = pipelines.by_id(number)
    source = table.describe(pipeline.source) if pipeline is not None else None
    return pipeline is not None and source is not None and _undisturbed(source, partial(_begin, pipeline))


def _begin(pipeline: Pipeline) -> None:
    """The triggers go last: who writes waits from there to the commit."""
    if db.value(SQL.checks, pipeline.id):
        change_log.log_scope(pipeline.id, "source")
    if db.run(SQL.set_reading, pipeline.id, partitions.current(pipeline.source)):
        triggers.remove(pipeline)


def strangers() -> list[int]:
    """Pipelines with partitions that came or went and no event trigger saw."""
    return [row["pipeline"] for row in db.rows(SQL.strangers)]


def sync_partitions(number: int) -> bool:
    """Follow them; True when rows are to be checked."""
    pipeline = pipelines.by_id(number)
    scope = partitions.sync(pipeline) if pipeline is not None else None
    if pipeline is not None and scope is not None:
        change_log.log_scope(pipeline.id, scope)
    return scope is not None
