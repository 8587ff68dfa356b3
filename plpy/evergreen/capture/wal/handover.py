"""Hand capture of a table over from triggers to the WAL, and back, without missing a change.

The states of a pipeline in embed.wal:

* pending: it waits for a worker; triggers capture, or all rows are checked later (recheck).
* published: the table is in the publication; transactions that started before that are still running.
* catching_up: they have ended, and the WAL is read up to that point.
* streaming: changes are read from the WAL, and the triggers are dropped.
* draining: capture was changed back; the WAL is read up to the change.
* unsupported: the table cannot be read from the WAL; triggers capture until it can.
"""

from functools import partial

from evergreen import db
from evergreen.capture import ddl_sync, generated, partitions, triggers
from evergreen.capture.triggers import own_ddl
from evergreen.capture.wal import slot
from evergreen.catalog import pipelines
from evergreen.core.pipeline import Pipeline
from evergreen.db.errors import is_lock_unavailable, is_object_in_use, is_undefined_table
from evergreen.db.locks import set_lock_timeout
from evergreen.db.queries import load
from evergreen.queue import change_log
from evergreen.source import table
from evergreen.source.table import Source

SQL = load(__package__)


def drop_slot(reason: str) -> None:
    """Drop the slot after changes were missed: its pipelines start over, and all their rows are checked."""
    for row in db.rows(SQL.delete_draining):
        change_log.log_scope(row["pipeline"], "source")
    db.run(SQL.restart_capture, reason)
    db.run(SQL.delete_positions)
    db.rows(SQL.drop_slot)


def request(pipeline_id: int, *, triggers: bool) -> None:
    """Have a worker switch a pipeline to the WAL.

    ``triggers``: they capture until then; otherwise all rows are checked then.
    """
    db.run(SQL.request_streaming, pipeline_id, triggers)


def leave(pipeline_id: int) -> bool:
    """Stop capture from the WAL; return whether all changes committed before now are captured, or will be read."""
    return bool(db.value(SQL.stop_streaming, pipeline_id))


def delete(pipeline_id: int) -> None:
    """Delete the state of a dropped pipeline."""
    db.run(SQL.delete_pipeline, pipeline_id)


def drop_unused() -> None:
    """Drop slot and publication, which no pipeline needs."""
    slot.unpublish_unused()
    db.run(SQL.delete_positions)
    db.rows(SQL.drop_slot)
    db.ddl(SQL.drop_publication)


def drop_if_unused() -> None:
    """Drop slot and publication unless a pipeline needs them; the next worker does it when the slot is in use."""
    if db.value(SQL.is_needed):
        return
    try:
        db.atomically(drop_unused)
    except db.DatabaseError as error:
        if not (is_object_in_use(error) or is_lock_unavailable(error)):
            raise
        db.notice("the replication slot is in use; the next worker drops it")


def prepare(*, has_publication: bool) -> None:
    """Create the publication, which must exist before the slot, and register restored pipelines."""
    db.run(SQL.register_pipelines)
    if not has_publication:
        slot.create_publication()


def in_state(state: str) -> list[int]:
    """Return the ids of the pipelines in a state."""
    return [row["pipeline"] for row in db.rows(SQL.pipelines_in_state, state)]


def publish(pipeline_id: int) -> bool:
    """Add the table of a waiting pipeline to the publication; return whether its state changed."""
    if db.one(SQL.lock_in_state, pipeline_id, "pending") is None:
        return False
    found = _with_obstacle(pipeline_id)
    if found is None:
        return False
    pipeline, source, obstacle = found
    if obstacle is not None:
        db.run(SQL.set_unsupported, pipeline.id, obstacle)
    elif _with_short_locks(source, partial(slot.publish, source)):
        db.run(SQL.set_published, pipeline.id)
    else:
        return False
    return True


def _with_obstacle(pipeline_id: int) -> tuple[Pipeline, Source, str | None] | None:
    """Return pipeline, source and what keeps the WAL from being enough; None when the source is unreadable."""
    known = pipelines.by_id(pipeline_id)
    pipeline = ddl_sync.follow_ddl(known) if known is not None else None
    source = table.of_pipeline(pipeline) if pipeline is not None else None
    if pipeline is None or source is None:
        return None
    return pipeline, source, db.value(SQL.replication_obstacle, source.oid, [c.attnum for c in source.key])


def _with_short_locks(source: Source, body: partial[object]) -> bool:
    """Run DDL on a user's table; return False if the table is locked, since a queued lock would block its writers."""

    def step() -> None:
        set_lock_timeout()
        body()

    try:
        with own_ddl(source.oid):
            db.atomically(step)
    except db.DatabaseError as error:
        if not (is_lock_unavailable(error) or is_undefined_table(error)):  # or it was renamed
            raise
        return False
    return True


def retry_unsupported(pipeline_id: int) -> bool:
    """Retry a pipeline whose table could not be read from the WAL and has triggers; return whether anything changed."""
    state = db.one(SQL.lock_in_state, pipeline_id, "unsupported")
    if state is None:
        return False
    found = _with_obstacle(pipeline_id)
    if found is None:
        return False
    pipeline, source, obstacle = found
    if state["recheck"]:
        if not _with_short_locks(source, partial(_install_triggers, pipeline, source)):
            return False
        change_log.log_scope(pipeline.id, "source")
        db.run(SQL.clear_recheck, pipeline.id)
        return True
    if obstacle is None:
        db.run(SQL.set_pending, pipeline.id)
        return True
    return False


def _install_triggers(pipeline: Pipeline, source: Source) -> None:
    generated.create_functions(pipeline, source)
    triggers.install(pipeline, triggers.captured(pipeline, source))


def advance_states(logged: str) -> bool:
    """Advance the states of pipelines after the WAL was logged up to a position; return whether one changed."""
    moved = db.run(SQL.set_catching_up) + db.run(SQL.mark_horizon) + db.run(SQL.finish_draining, logged)
    slot.unpublish_unused()
    return moved > 0


def caught_up(logged: str) -> list[int]:
    """Return the pipelines that can start streaming, once the WAL is logged up to a position."""
    return [row["pipeline"] for row in db.rows(SQL.caught_up, logged)]


def start_streaming(pipeline_id: int) -> bool:
    """Switch a pipeline to the WAL and drop its triggers; return False if its table is locked."""
    pipeline = pipelines.by_id(pipeline_id)
    source = table.of_pipeline(pipeline) if pipeline is not None else None
    return (
        pipeline is not None and source is not None and _with_short_locks(source, partial(_start_streaming, pipeline))
    )


def _start_streaming(pipeline: Pipeline) -> None:
    """Drop the triggers last, because writers wait from there until the commit."""
    if db.value(SQL.needs_recheck, pipeline.id):
        change_log.log_scope(pipeline.id, "source")
    if db.run(SQL.set_streaming, pipeline.id, partitions.current(pipeline.source)):
        triggers.remove(pipeline)


def with_changed_partitions() -> list[int]:
    """Return the pipelines whose partitions changed without an event trigger."""
    return [row["pipeline"] for row in db.rows(SQL.changed_partitions)]


def sync_partitions(pipeline_id: int) -> bool:
    """Record the partitions of a pipeline; return whether rows need a check."""
    pipeline = pipelines.by_id(pipeline_id)
    scope = partitions.sync(pipeline) if pipeline is not None else None
    if pipeline is not None and scope is not None:
        change_log.log_scope(pipeline.id, scope)
    return scope is not None
