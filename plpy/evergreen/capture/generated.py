"""The functions generated for a pipeline, and how they degrade when its source is broken or dropped."""

from evergreen import db
from evergreen.capture import link_triggers, triggers
from evergreen.capture.binding import Binding
from evergreen.capture.restore import was_restored
from evergreen.catalog import pipelines
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log, relations
from evergreen.db.errors import is_lock_unavailable
from evergreen.db.queries import load
from evergreen.source import functions, link_functions
from evergreen.source import table as columns
from evergreen.source.table import Column, Source
from evergreen.storage import generation_tables

SQL = load(__package__)


def create_functions(pipeline: Pipeline, source: Source) -> None:
    """Create or replace all functions of a pipeline."""
    watched: dict[int, tuple[Column, ...]] = {g.id: _watched(g, source) for g in pipeline.generations}
    only_if = source.by_number(pipeline.only_if[0]) if pipeline.only_if is not None else None
    _create_capture_function(pipeline, source)
    functions.scan(pipeline, source).create(source.owner_name)
    functions.count(pipeline, source).create(source.owner_name)
    functions.canonical_key(pipeline, source).create(source.owner_name)
    for generation in pipeline.generations:
        functions.reader(generation, source, watched[generation.id], only_if).create(source.owner_name)
        generation_tables.src(generation, pipeline, source, watched[generation.id], only_if).create(None)


def _create_capture_function(pipeline: Pipeline, source: Source) -> None:
    if source.has_declared_key:
        _create_link_functions(pipeline, source)
    elif pipeline.triggers:
        all_watched = tuple(dict.fromkeys(c for g in pipeline.generations for c in _watched(g, source)))
        triggers.capture_function(pipeline, source, all_watched, broken=False).create(None)


def _create_link_functions(pipeline: Pipeline, view: Source) -> None:
    """Create the functions of a view's tables; where the user captures, the triggers are gone, but not the look-ups."""
    for part, links in triggers.parts(pipeline).items():
        base = columns.describe(links[0].base)
        if pipeline.triggers:
            link_triggers.capture_function(pipeline, part, links, base, view).create(None)
        for link in links:
            for function in link_functions.of_link(pipeline, link, view) if not link.is_key else ():
                function.create(view.owner_name)


def stop_link_capture(pipeline: Pipeline) -> None:
    """Let the triggers on a view's tables log nothing: it is broken, and all rows are checked once it is not."""
    for part, links in triggers.parts(pipeline).items():
        if pipeline.triggers:
            link_triggers.capture_function(pipeline, part, links, columns.describe(links[0].base), None).create(None)


def replace_capture_function(pipeline_id: int) -> None:
    """Replace the capture function after a change of options; open sessions call the new one from then on."""
    pipeline = pipelines.by_id(pipeline_id)
    source = columns.of_pipeline(pipeline) if pipeline is not None else None
    if pipeline is not None and source is not None and not was_restored(pipeline) and pipeline.broken_reason is None:
        _create_capture_function(pipeline, source)


def _watched(generation: Generation, source: Source) -> tuple[Column, ...]:
    return tuple(c for number, _ in generation.watched if (c := source.by_number(number)) is not None)


def degrade(pipeline: Pipeline, source: Source, found: Binding) -> None:
    """Keep the user's writes and the view working while the pipeline is broken."""
    watched = tuple(dict.fromkeys(c for g in found.watched.values() for c in g))
    if source.has_declared_key:
        stop_link_capture(pipeline)
    elif pipeline.triggers:
        triggers.capture_function(pipeline, source, watched, broken=found.key_broken).create(None)
    # Without the only_if column no row can be shown to meet the condition.
    is_visible = pipeline.only_if is None or (found.only_if is not None and found.only_if.bare_type == "bool")
    visible = source if is_visible and not found.key_broken else None
    for generation in pipeline.generations:
        generation_tables.src(generation, pipeline, visible, found.watched[generation.id], found.only_if).create(None)


def follow_row_security(pipeline: Pipeline, source: Source) -> None:
    """Enable row security on the generation tables as on the source; a locked table is left for the next check."""
    for generation in pipeline.generations:
        try:
            db.atomically(lambda generation=generation: generation_tables.follow_row_security(generation, source))
        except db.DatabaseError as error:
            if not is_lock_unavailable(error):
                raise
            event_log.info("row_security_waits", pipeline=pipeline.name, table=generation.table)


def release_source(pipeline: Pipeline) -> None:
    """Drop what keeps the owner from dropping the schema or the key's type: the view, and key columns of it."""
    stop_link_capture(pipeline)
    view = generation_tables.relation_name(pipeline.view)
    if view is not None:
        generation_tables.drop_view(view)
    for generation in pipeline.generations:
        key_columns = db.rows(SQL.stored_key_types, relations.oid_of(generation.table))
        foreign = [row["name"] for row in key_columns if not row["built_in"]]
        if foreign:
            for table in (generation.table, generation.readable):
                generation_tables.drop_policy(table)
            functions.drop(f"embed_store.src_{generation.id}()")
        for name in foreign:
            db.ddl(SQL.drop_column.with_identifiers(table=generation.readable, column=db.identifier(name)))
