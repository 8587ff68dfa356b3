"""Follow the source: after DDL, after a restore and before a read, regenerate what no longer matches the table."""

from contextlib import nullcontext
from dataclasses import replace

from evergreen import db
from evergreen.capture import binding, dependencies, generated, partitions, restore, triggers
from evergreen.capture.triggers import is_own_ddl, own_ddl
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log
from evergreen.db.errors import is_dependency, is_lock_unavailable
from evergreen.db.queries import load
from evergreen.queue import backfill, change_log
from evergreen.source import functions, reader, view
from evergreen.source import table as columns
from evergreen.source.table import Source
from evergreen.storage import generation_tables

SQL = load(__package__)
_UNSEEN = 0  # instead of the database's OID: embed.document was truncated, and no worker has run since


def refresh(pipeline_id: int, dropped: bool, attnum: int | None) -> None:
    """Body of embed.refresh(), which the event triggers call: regenerate a pipeline's functions and triggers.

    ``attnum``: the column that the command names, if it names one.
    """
    pipeline = pipelines.by_id(pipeline_id)
    if pipeline is None or is_own_ddl(pipeline):
        return
    restored = restore.was_restored(pipeline)
    by_name = restored and not restore.is_clone(pipeline)
    if dropped or (source := columns.of_pipeline(pipeline, by_name=by_name)) is None:
        _mark_source_dropped(pipeline)
    elif not restored:
        rebind(pipeline, source, by_name=False)
    elif not by_name or (source.key and restore.is_bound_here(pipeline)):
        # No worker has run since the restore, whose own CREATE TRIGGER may still come: create none here.
        rebind(pipeline, source, by_name=by_name, renamed=attnum, with_triggers=False)


def follow_ddl(pipeline: Pipeline) -> Pipeline | None:
    """Follow DDL that no event trigger saw, before rows are read; None when the source cannot be read."""
    pipeline = restore.find_by_name(pipeline)
    restored = restore.was_restored(pipeline)
    by_name = restored and not restore.is_clone(pipeline)
    source = columns.of_pipeline(pipeline, by_name=by_name)
    if source is None:
        if pipeline.broken_reason is None and pipeline.source:
            _mark_source_dropped(pipeline)
        return None
    if pipeline.missing_part is not None:
        return None
    if not restored and pipeline.broken_reason is None:
        if _matches_catalog(pipeline, source):
            return pipeline
        # A generation may have been retired since the pipeline was read, and its functions with it.
        reread = pipelines.by_id(pipeline.id)
        if reread is not None and reread.broken_reason is None and _matches_catalog(reread, source):
            return reread
    rebind(pipeline, source, by_name=by_name)
    if restored:
        restore.adopt(pipeline)
    rebound = pipelines.by_id(pipeline.id)
    return rebound if rebound is not None and rebound.broken_reason is None else None


def follow_and_repair(pipeline: Pipeline) -> Pipeline | None:
    """Follow DDL for a worker: as ``follow_ddl``, and queue rows whose chunks were lost."""
    found = follow_ddl(pipeline)
    if found is None:
        return None
    lost = [g for g in found.generations if db.value(SQL.has_lost_documents, found.id, g.id)]
    for generation in lost:
        generation_tables.repair(found, generation)
    if lost:
        backfill.restart(found.id)
    return found


def require_readable(pipeline: Pipeline) -> Pipeline:
    """Follow DDL for a user's call: as ``follow_ddl``, but raises UserError 55000 when the source cannot be read."""
    found = follow_ddl(pipeline)
    if found is None:
        raise UserError(
            f'the source of pipeline "{pipeline.name}" cannot be read',
            "55000",
            hint="SELECT last_error FROM embed_status;",
        )
    return found


def require_readable_unrepaired(pipeline: Pipeline) -> Pipeline:
    """Follow DDL for a read-only call: as ``require_readable``, but no repair after a TRUNCATE of embed.document."""
    here = db.one(SQL.current_identity)
    source = columns.of_pipeline(pipeline)
    is_truncated = here is not None and pipeline.seen == (here["system_identifier"], _UNSEEN, pipeline.source)
    if is_truncated and source is not None and pipeline.broken_reason is None and _matches_catalog(pipeline, source):
        return pipeline
    return require_readable(pipeline)


def _matches_catalog(pipeline: Pipeline, source: Source) -> bool:
    """Return whether the generated functions still match the source's names, numbers, key and owner."""
    key = tuple((c.attnum, c.name, c.type_name) for c in source.key)
    watched = [w for g in pipeline.generations for w in g.watched]
    names = {c.attnum: c.name for c in source.columns}
    return (
        key == pipeline.key
        and source.qualified == pipeline.bound_name
        and all(names.get(number) == name for number, name in watched)
        and reader.runs_as_owner(pipeline)
        # A new owner of a function of the key's type is no DDL on the source.
        and (all(c.built_in for c in source.key) or columns.untrusted_function(source, in_indexes=True) is None)
        and all(_reader_matches_source(g, source) for g in pipeline.generations)
        and dependencies.matches_catalog(pipeline, source)
    )


def _reader_matches_source(generation: Generation, source: Source) -> bool:
    function = f"embed_store.reader_{generation.id}(jsonb)"
    return bool(db.value(SQL.reader_matches_source, function, source.oid, generation.table))


def _mark_source_dropped(pipeline: Pipeline) -> None:
    reason = "the source table was dropped; remove the pipeline with embed_drop()"
    binding.mark_broken(pipeline, reason)
    try:
        db.atomically(lambda: generated.release_source(pipeline))
    except db.DatabaseError as error:
        # The user's view on ours, or a session that reads it.
        if not (is_dependency(error) or is_lock_unavailable(error)):
            raise
        for generation in pipeline.generations:
            generation_tables.src(generation, pipeline, None, ()).create(None)


def rebind(
    pipeline: Pipeline, source: Source, *, by_name: bool, renamed: int | None = None, with_triggers: bool = True
) -> None:
    """Find the pipeline's columns again, by number or by name, and regenerate its functions and triggers.

    ``renamed``: the number of a column renamed just now, whose stored name is the old one.
    """
    found = binding.find(pipeline, source, by_name=by_name, renamed=renamed)
    if found.broken is None:
        found = replace(found, broken=dependencies.follow(pipeline, source, by_name=by_name))
    binding.store(pipeline, source, found)
    current = pipelines.by_id(pipeline.id)
    assert current is not None
    if found.broken is None:
        # What its owner may not read of a view's tables is an error when rows are read, not in the owner's DDL.
        with functions.without_body_checks() if source.has_declared_key else nullcontext():
            generated.create_functions(current, source)
        generated.follow_row_security(current, source)
    else:
        generated.degrade(current, source, found)
    recovered = pipeline.broken_reason is not None and found.broken is None
    if recovered:
        event_log.info("pipeline_recovered", pipeline=pipeline.name)
    if source.has_declared_key and found.broken is not None:
        return  # its tables are captured again when it is whole
    _follow_tables(pipeline, current, source, recovered=recovered, with_triggers=with_triggers)
    if source.kind == "v" and (now := view.digest(source.oid)) != pipeline.definition:
        db.run(SQL.set_definition, pipeline.id, now)
        change_log.log_scope(pipeline.id, "source")


def _follow_tables(
    before: Pipeline, current: Pipeline, source: Source, *, recovered: bool, with_triggers: bool
) -> None:
    """Bring triggers to the tables and partitions there are now, and queue a check of what was not captured."""
    removed = missed_rows = False
    if current.triggers and with_triggers:
        tables = triggers.captured(current, source)
        with own_ddl(current.source, *(table.oid for table in tables)):
            missed_rows = triggers.install(current, tables)
            removed = triggers.remove_from_others(current, tables)
    lost_a_partition = partitions.record(current)
    scope = partitions.sync(current)
    # WAL written before the key was renamed has the old names.
    renamed_key = current.capture == "cdc" and [name for _, name, _ in before.key] != [c.name for c in source.key]
    if missed_rows or recovered or renamed_key or scope == "source":
        change_log.log_scope(current.id, "source")
    elif removed or scope == "document" or (lost_a_partition and current.capture == "manual"):
        change_log.log_scope(current.id, "source" if source.has_declared_key else "document")
