"""embed_build: starts a generation next to the active one; both are kept fresh."""

from evergreen import db
from evergreen.capture import ddl_sync, generated
from evergreen.capture.triggers import own_ddl
from evergreen.catalog import json_objects, models, pg_cron, pipelines
from evergreen.catalog import options as generation_options
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log, locks
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding import permissions
from evergreen.pipelines import create, validation
from evergreen.pipelines.validation import Preparation
from evergreen.queue import backfill as cursors
from evergreen.source import functions, table
from evergreen.source.table import Source
from evergreen.storage import generation_tables

SQL = load(__package__)


@sql_entry
def embed_build(
    pipeline: str | None,
    model: str | None,
    chunker: str | None,
    columns: list[str | None] | None,
    template: str | None,
    options: str | None,
) -> int:
    """Begin a generation and return its number; what is not given is as in the active one.

    Raises 42704, 42501, 55000 (one is being built already, or the source cannot be read), 55P03, and what embed_create
    raises for the arguments that they share.
    """
    role = caller()

    def build() -> int:
        found, source = _ready(pipeline, role)
        preparation = _preparation(found, source, columns, template, chunker)
        chosen = models.by_name(model if model is not None else found.active.model.name)
        if chosen.id not in {generation.model.id for generation in found.generations}:
            permissions.check_may_assign(role, chosen)  # a model that the pipeline has was granted to it
        index = generation_options.of_generation(options)
        number = create.insert_generation(found.id, chosen, preparation, "building", found.active.options | index)
        return _begin(found, number, source)

    return as_extension_owner(build)


def hold(pipeline: Pipeline) -> None:
    """Keep all others from beginning, promoting or retiring a generation of this pipeline, to the end of the call."""
    db.run(SQL.lock_pipeline, pipeline.id)


def built(pipeline: Pipeline) -> Generation:
    """Return the generation that is being built; raises UserError 55000."""
    if pipeline.building is None:
        raise UserError(
            f'pipeline "{pipeline.name}" has no generation that is being built',
            "55000",
            hint=f"Begin one with embed_build({db.literal(pipeline.name)}, …).",
        )
    return pipeline.building


def changed(pipeline: Pipeline) -> UserError:
    """Build the error for generations that are not those that the call began with."""
    return UserError(
        f'the generations of pipeline "{pipeline.name}" were changed by another session',
        "55000",
        hint="Look at embed_generations and call again.",
    )


def _ready(name: str | None, role: str) -> tuple[Pipeline, Source]:
    """Return a pipeline that can have another generation, with its source; others who change it have to wait."""
    found = pipelines.owned(name, role)
    hold(found)
    checked = ddl_sync.require_readable(found)
    source = table.of_pipeline(found)
    assert source is not None  # it has just been looked at
    if checked.building is not None:
        raise UserError(
            f'generation {checked.building.id} of pipeline "{found.name}" is being built already',
            "55000",
            hint=f"embed_promote({db.literal(found.name)}) it, or take it away with"
            f" embed_retire({db.literal(found.name)}, {checked.building.id}).",
        )
    return checked, source


def _preparation(
    pipeline: Pipeline, source: Source, names: list[str | None] | None, template: str | None, chunker: str | None
) -> Preparation:
    active = pipeline.active
    if names is None and template is None:
        names, template = list(active.columns) if active.columns is not None else None, active.template
    chunker = chunker if chunker is not None else json_objects.dumps(active.chunker)
    return validation.check_preparation(
        source, names, template, chunker, pipeline.only_if[1] if pipeline.only_if is not None else None
    )


def _begin(before: Pipeline, number: int, source: Source) -> int:
    """Create functions and table; where more columns are watched now, wait for the writers that do not know yet."""
    pipeline = pipelines.by_id(before.id)
    assert pipeline is not None
    generation = pipeline.building
    assert generation is not None
    backfill = True
    cursors.create(number, backfill=backfill)
    cursors.queue_sample(before.active, number)
    with functions.without_body_checks():
        generated.create_functions(pipeline, source)
    generation_tables.create_table(pipeline, generation, source)
    # The columns that a view uses are watched, whatever the generation reads of it.
    if pipeline.triggers and not source.has_declared_key and _watched(before) < _watched(pipeline):
        with own_ddl(source.oid):
            locks.with_short_locks(
                lambda: db.ddl(SQL.wait_for_writers.with_identifiers(table=source.qualified)), source.qualified
            )
    event_log.info("generation_started", pipeline=pipeline.name, generation=number, model=generation.model.name)
    db.notice(_next(pipeline, generation, source))
    return number


def _watched(pipeline: Pipeline) -> set[int]:
    return {number for generation in pipeline.generations for number, _ in generation.watched}


def _next(pipeline: Pipeline, generation: Generation, source: Source) -> str:
    name = db.literal(pipeline.name)
    rows = table.format_row_estimate(source)
    return (
        f"generation {generation.id}: {rows} to embed; {pg_cron.next_drain(pipeline.name)},"
        f" then SELECT * FROM embed_compare({name}), then SELECT embed_promote({name})"
    )
