"""Follow the source: after DDL, after a restore and before a read, what is generated matches the table again."""

from collections.abc import Iterable
from dataclasses import dataclass

from evergreen import db
from evergreen.capture import partitions, triggers
from evergreen.capture.triggers import is_own, own_ddl
from evergreen.catalog import pipelines
from evergreen.core import template
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.embedding.limits import state
from evergreen.queue import change_log
from evergreen.source import expressions as ex
from evergreen.source import functions
from evergreen.source import table as columns
from evergreen.source.table import Column, Source
from evergreen.storage import generation_tables

SQL = load(__package__)
_UNSEEN = 0  # in place of the database's oid: documents were truncated, and no worker has been here since


@dataclass(frozen=True)
class Bound:
    """A pipeline's columns found again in the source as it is now."""

    key: tuple[Column, ...]
    only_if: Column | None
    watched: dict[int, tuple[Column, ...]]  # by generation
    broken: str | None
    key_broken: bool


def refresh(number: int, dropped: bool, attnum: int | None) -> None:
    """Body of embed.refresh(): regenerate what belongs to a pipeline; called for the user's DDL.

    ``attnum``: the column that the command was about, if it was about one.
    """
    pipeline = pipelines.by_id(number)
    if pipeline is None or is_own(pipeline.source):
        return
    if dropped or (source := columns.describe(pipeline.source)) is None:
        _source_gone(pipeline)
    elif not was_restored(pipeline):
        bind(pipeline, source, by_name=False)
    elif _is_clone(pipeline) or source.key:
        # No worker has been here since the restore. Its own CREATE TRIGGER may still come, so ours stay away.
        bind(pipeline, source, by_name=not _is_clone(pipeline), renamed=attnum, with_triggers=False)


def was_restored(pipeline: Pipeline) -> bool:
    """True when the catalog was restored or cloned since it was last seen: numbers of columns mean nothing then."""
    here = db.one(SQL.identity, pipeline.source)
    assert here is not None
    return pipeline.seen != (here["system_identifier"], here["database_oid"], pipeline.source)


def _is_clone(pipeline: Pipeline) -> bool:
    """True for a copy of the whole database, in which every oid and number is still right."""
    here = db.one(SQL.identity, pipeline.source)
    assert here is not None
    return (pipeline.seen[0], pipeline.seen[2]) == (here["system_identifier"], pipeline.source)


def check(pipeline: Pipeline) -> Pipeline | None:
    """Called before rows are read: follow whatever no event trigger saw. None when nothing can be read."""
    source = columns.describe(pipeline.source)
    if source is None:
        if pipeline.broken_reason is None:
            _source_gone(pipeline)
        return None
    if pipeline.torn is not None:
        return None
    restored = was_restored(pipeline)
    if not restored and pipeline.broken_reason is None:
        if _as_stored(pipeline, source):
            return pipeline
        # A generation may have been retired since the pipeline was read, and its functions with it.
        again = pipelines.by_id(pipeline.id)
        if again is not None and again.broken_reason is None and _as_stored(again, source):
            return again
    bind(pipeline, source, by_name=restored and not _is_clone(pipeline))
    if restored:
        _rebind_restored(pipeline)
    followed = pipelines.by_id(pipeline.id)
    return followed if followed is not None and followed.broken_reason is None else None


def ready(pipeline: Pipeline) -> Pipeline | None:
    """As check, for a worker, who queues rows whose vectors are lost."""
    found = check(pipeline)
    if found is None:
        return None
    lost = [g for g in found.generations if db.value(SQL.lost, found.id, g.id)]
    for generation in lost:
        generation_tables.mend(found, generation)
    if lost:
        db.run(SQL.restart_scans, found.id)
    return found


def readable(pipeline: Pipeline) -> Pipeline:
    """As check, for somebody who is told when nothing can be read; raises UserError 55000."""
    found = check(pipeline)
    if found is None:
        raise UserError(
            f'the source of pipeline "{pipeline.name}" cannot be read',
            "55000",
            hint="SELECT last_error FROM embed_status;",
        )
    return found


def as_it_is(pipeline: Pipeline) -> Pipeline:
    """As readable, for a look that changes nothing: what a TRUNCATE of embed.document left behind stays there."""
    here = db.one(SQL.identity, pipeline.source)
    source = columns.describe(pipeline.source)
    is_truncated = here is not None and pipeline.seen == (here["system_identifier"], _UNSEEN, pipeline.source)
    if is_truncated and source is not None and pipeline.broken_reason is None and _as_stored(pipeline, source):
        return pipeline
    return readable(pipeline)


def _as_stored(pipeline: Pipeline, source: Source) -> bool:
    """True when names, numbers, key and the readers' owner are what the generated functions were made for."""
    key = tuple((c.attnum, c.name, c.type_name) for c in source.key)
    watched = [w for g in pipeline.generations for w in g.watched]
    names = {c.attnum: c.name for c in source.columns}
    return (
        key == pipeline.key
        and source.qualified == pipeline.bound_name
        and all(names.get(number) == name for number, name in watched)
        and bool(db.value(SQL.runs_as_owner, pipeline.id))
        # No DDL of the source tells that a function of the key's type changed hands.
        and (all(c.built_in for c in source.key) or columns.foreign_code(source, in_indexes=True) is None)
        and all(_is_as_made(g, source) for g in pipeline.generations)
    )


def _is_as_made(generation: Generation, source: Source) -> bool:
    reader = f"embed_store.reader_{generation.id}(jsonb)"
    return bool(db.value(SQL.generation_state, reader, source.oid, generation.table))


def _rebind_restored(pipeline: Pipeline) -> None:
    """Make a restored pipeline's home here: nothing of the other server's leases and transaction ids counts."""
    state.create_all()
    db.run(SQL.drop_leases, pipeline.id)
    db.run(SQL.drop_floor, pipeline.id)
    db.value(SQL.document_numbers)
    if pipeline.torn is None:
        for generation in pipeline.generations:
            generation_tables.mend(pipeline, generation)
    db.run(SQL.restart_scans, pipeline.id)
    db.run(SQL.count_documents, pipeline.id)
    for row in db.rows(SQL.changed_triggers):
        with_lock_timeout(lambda row=row: db.ddl(SQL.enable_trigger.on(**row)), "50ms")
    here = db.one(SQL.identity, pipeline.source)
    assert here is not None
    db.run(SQL.set_seen, pipeline.id, here["system_identifier"], here["database_oid"], pipeline.source)


def _source_gone(pipeline: Pipeline) -> None:
    reason = "the source table was dropped; remove the pipeline with embed_drop()"
    _break(pipeline, reason)
    try:
        db.atomically(lambda: _let_go(pipeline))
    except db.DatabaseError as error:
        if db.sqlstate(error) not in {"2BP01", "55P03"}:  # a view of the user's on ours, somebody who reads it
            raise
        for generation in pipeline.generations:
            generation_tables.src(generation, pipeline, None, ()).create(None)


def _let_go(pipeline: Pipeline) -> None:
    """Leave nothing that keeps the owner from dropping the schema, or the type of the key, too."""
    view = generation_tables.relation_name(pipeline.view)
    if view is not None:
        generation_tables.drop_view(view)
    for generation in pipeline.generations:
        columns_of_key = db.rows(SQL.stored_key_types, db.value(SQL.table_oid, generation.table))
        users = [row["name"] for row in columns_of_key if not row["built_in"]]
        if users:
            for table in (generation.table, generation.readable):
                generation_tables.drop_policy(table)
            functions.drop(f"embed_store.src_{generation.id}()")
        for name in users:
            db.ddl(SQL.drop_column.on(table=generation.readable, column=db.identifier(name)))


def bind(
    pipeline: Pipeline, source: Source, *, by_name: bool, renamed: int | None = None, with_triggers: bool = True
) -> None:
    """Find the pipeline's columns again, by number or by name; regenerate its functions and triggers.

    ``renamed``: the number of a column that has just got another name than the one we know.
    """
    bound = _find(pipeline, source, by_name=by_name, renamed=renamed)
    _store(pipeline, source, bound)
    current = pipelines.by_id(pipeline.id)
    assert current is not None
    if bound.broken is None:
        functions_of(current, source)
        _follow_row_security(current, source)
    else:
        _degrade(current, source, bound)
    came_back = pipeline.broken_reason is not None and bound.broken is None
    if came_back:
        event_log.info("pipeline_recovered", pipeline=pipeline.name)
    went = came = False
    if current.triggers and with_triggers:
        with own_ddl(pipeline.source):
            came = triggers.install(current, source)
            went = triggers.remove_strays(current, source)
    is_one_less = note_partitions(current)
    scope = partitions.follow(current)
    renamed_key = current.capture == "cdc" and [name for _, name, _ in pipeline.key] != [c.name for c in source.key]
    if came or came_back or renamed_key or scope == "source":  # what the WAL has from before has the names of before
        change_log.log_scope(pipeline.id, "source")
    elif went or scope == "document" or (is_one_less and current.capture == "manual"):
        change_log.log_scope(pipeline.id, "document")


def note_partitions(pipeline: Pipeline) -> bool:
    """Remember the source's partitions, as nothing tells whose a dropped table was; True when there is one less."""
    return bool(db.value(SQL.note_partitions, pipeline.id))


def _find(pipeline: Pipeline, source: Source, *, by_name: bool, renamed: int | None) -> Bound:
    lost: list[str] = []

    def found(number: int, name: str) -> Column | None:
        column = source.column(name) if by_name else source.numbered(number)
        if column is None and by_name and renamed:
            column = source.numbered(renamed)
        if column is None:
            lost.append(name)
        return column

    key = tuple(c for number, name, _ in pipeline.key if (c := found(number, name)) is not None)
    watched: dict[int, tuple[Column, ...]] = {
        g.id: tuple(c for number, name in g.watched if (c := found(number, name)) is not None)
        for g in pipeline.generations
    }
    only_if = found(*pipeline.only_if) if pipeline.only_if is not None else None
    # The generation table's own columns say what type the key had, whatever the types are called now.
    table = db.value(SQL.table_oid, pipeline.active.table)
    types = [row["type"] for row in db.rows(SQL.stored_key_types, table)]
    key_broken = [c.attnum for c in key] != [c.attnum for c in source.key] or [c.type_oid for c in key] != types
    broken = None
    if key_broken:
        broken = "the primary key of the source changed; embed_drop() the pipeline and create it again"
    elif lost:
        columns_lost = ", ".join(f'"{name}"' for name in dict.fromkeys(lost))
        without = "" if all(source.column(name) for name in lost) else " without it"  # it may be there once more
        broken = (
            f"column {columns_lost} of the source was dropped; embed_drop() the pipeline and create it again{without}"
        )
    elif only_if is not None and only_if.bare_type != "bool":
        broken = f'only_if column "{only_if.name}" is no longer boolean; make it so, or embed_drop() the pipeline'
    elif unwatchable := _unwatchable([c for g in watched.values() for c in g]):
        broken = unwatchable
    elif (code := columns.foreign_code(source)) is not None:
        broken = (
            f'key column "{code[0].name}" runs function {code[1]}, which no superuser owns; embed_drop() the pipeline'
        )
    return Bound(key, only_if, watched, broken, key_broken)


def _unwatchable(watched: Iterable[Column]) -> str | None:
    """Say why the text of a column can no longer be followed."""
    for column in watched:
        reason = ex.unwatchable(column)
        if reason is not None:
            return f'column "{column.name}" of the source {reason[0]}; {reason[1][0].lower()}{reason[1][1:]}'
    return None


def _store(pipeline: Pipeline, source: Source, bound: Bound) -> None:
    """Write down names and numbers as they are now; where a column is lost, only why."""
    if bound.broken is not None:
        if bound.broken != pipeline.broken_reason:
            _break(pipeline, bound.broken)
        return
    only_if = (bound.only_if.name, bound.only_if.attnum) if bound.only_if is not None else (None, None)
    numbers = [c.attnum for c in bound.key]
    types = [c.type_name for c in bound.key]
    db.run(SQL.set_pipeline, pipeline.id, [c.name for c in bound.key], numbers, types, *only_if, source.qualified)
    for generation in pipeline.generations:
        watched = bound.watched[generation.id]
        names = dict(zip((name for _, name in generation.watched), (c.name for c in watched), strict=True))
        db.run(
            SQL.set_generation,
            generation.id,
            [names[name] for name in generation.columns] if generation.columns is not None else None,
            _renamed(generation, names),
            [c.name for c in watched],
            [c.attnum for c in watched],
        )


def _break(pipeline: Pipeline, reason: str) -> None:
    db.run(SQL.set_broken, pipeline.id, reason)
    event_log.warn("pipeline_broken", pipeline=pipeline.name, reason=reason)


def _renamed(generation: Generation, names: dict[str, str]) -> str | None:
    if generation.template is None:
        return None
    return template.rename(generation.template, names, framed=generation.columns is not None)


def _degrade(pipeline: Pipeline, source: Source, bound: Bound) -> None:
    """Keep the user's writes and the view going while the pipeline is broken."""
    watched = tuple(dict.fromkeys(c for g in bound.watched.values() for c in g))
    if pipeline.triggers:
        triggers.capture(pipeline, source, watched, broken=bound.key_broken).create(None)
    # Without its condition no row is known to meet it.
    is_shown = pipeline.only_if is None or (bound.only_if is not None and bound.only_if.bare_type == "bool")
    seen = source if is_shown and not bound.key_broken else None
    for generation in pipeline.generations:
        generation_tables.src(generation, pipeline, seen, bound.watched[generation.id], bound.only_if).create(None)


def functions_of(pipeline: Pipeline, source: Source) -> None:
    """Create or replace every function that is generated for a pipeline."""
    watched: dict[int, tuple[Column, ...]] = {g.id: _columns(g, source) for g in pipeline.generations}
    only_if = source.numbered(pipeline.only_if[0]) if pipeline.only_if is not None else None
    _capture(pipeline, source)
    functions.scan(pipeline, source).create(source.owner_name)
    functions.count(pipeline, source).create(source.owner_name)
    functions.canonical_key(pipeline, source).create(source.owner_name)
    for generation in pipeline.generations:
        functions.reader(generation, source, watched[generation.id], only_if).create(source.owner_name)
        generation_tables.src(generation, pipeline, source, watched[generation.id], only_if).create(None)


def _capture(pipeline: Pipeline, source: Source) -> None:
    if pipeline.triggers:
        union = tuple(dict.fromkeys(c for g in pipeline.generations for c in _columns(g, source)))
        triggers.capture(pipeline, source, union, broken=False).create(None)


def regenerate_capture(number: int) -> None:
    """Replace the capture function after an option of it was changed; sessions call the new one from then on."""
    pipeline = pipelines.by_id(number)
    source = columns.describe(pipeline.source) if pipeline is not None else None
    if pipeline is not None and source is not None and not was_restored(pipeline) and pipeline.broken_reason is None:
        _capture(pipeline, source)


def _follow_row_security(pipeline: Pipeline, source: Source) -> None:
    for generation in pipeline.generations:
        try:
            db.atomically(lambda generation=generation: generation_tables.follow_row_security(generation, source))
        except db.DatabaseError as error:
            if db.sqlstate(error) != "55P03":
                raise
            event_log.info("row_security_waits", pipeline=pipeline.name, table=generation.table)


def _columns(generation: Generation, source: Source) -> tuple[Column, ...]:
    return tuple(c for number, _ in generation.watched if (c := source.numbered(number)) is not None)
