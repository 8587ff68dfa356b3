"""embed_create: a pipeline with everything that belongs to it, or nothing."""

import json
from dataclasses import replace
from typing import Any

from evergreen import db
from evergreen.capture import dependencies, generated, partitions, triggers
from evergreen.capture.triggers import CapturedTable, own_ddl
from evergreen.capture.wal import handover
from evergreen.catalog import pg_cron, pipelines
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Model, Pipeline
from evergreen.db.errors import is_lock_unavailable, is_unique_violation
from evergreen.db.locks import with_short_locks
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding import permissions
from evergreen.embedding.limits import state as counters
from evergreen.pipelines import definition, validation
from evergreen.pipelines.validation import Preparation
from evergreen.queue import backfill as cursors
from evergreen.queue import change_log
from evergreen.source import functions, view
from evergreen.source.table import Column, Source, format_row_estimate
from evergreen.storage import generation_tables

SQL = load(__package__)


@sql_entry
def embed_create(
    name: str | None,
    source: str | None,
    columns: list[str | None] | None,
    template: str | None,
    model: str | None,
    chunker: str | None,
    capture: str | None,
    backfill: bool | None,
    if_not_exists: bool | None,
    view_name: str | None,
    only_if: str | None,
    options: str | None,
    key: list[str | None] | None,
    depends: str | None,
) -> int:
    """Create a pipeline and return its id; errors: see ``validation``, and 42710 when the name is taken."""
    role = caller()

    def create() -> int:
        checked_name = validation.check_name(name)
        table = validation.check_source(source, role, key, depends)
        preparation = validation.check_preparation(table, columns, template, chunker, only_if)
        chosen_model = validation.check_model(model)
        chosen_capture = validation.check_capture(capture, table)
        links = validation.check_depends(table, depends, role)
        chosen_options, index = validation.check_options(options)
        existing = pipelines.find(checked_name)
        if existing is not None:
            wanted = definition.Wanted(
                table, preparation, chosen_model, chosen_capture, chosen_options | index, view_name, only_if, links
            )
            return _accept_existing(existing, wanted, if_not_exists=bool(if_not_exists))
        permissions.check_may_assign(role, chosen_model)
        shown = generation_tables.view_name(table, checked_name, view_name, role)
        condition = validation.existing(table, only_if) if only_if is not None else None
        number = _insert_pipeline(checked_name, table, condition, chosen_capture, json.dumps(chosen_options))
        dependencies.store(number, links)
        counters.create_all()
        counters.create_budget(number, chosen_options, chosen_model)
        insert_generation(number, chosen_model, preparation, "active", index)
        return _build(number, table, shown, backfill=backfill is not False)

    return as_extension_owner(create)


def _accept_existing(existing: Pipeline, wanted: definition.Wanted, *, if_not_exists: bool) -> int:
    if not if_not_exists:
        raise UserError(
            f'pipeline "{existing.name}" exists already',
            "42710",
            hint="Choose another name, drop it with embed_drop(), or pass if_not_exists => true.",
        )
    existing.check_whole()
    differences = definition.differences(existing, wanted)
    if differences:
        raise UserError(
            f'pipeline "{existing.name}" exists already with another {", ".join(differences)}',
            "42710",
            hint=f"SELECT embed_get_def('{existing.name}') shows what it is.",
        )
    db.notice(f'pipeline "{existing.name}" exists already, skipping')
    return existing.id


def _insert_pipeline(name: str, source: Source, only_if: Column | None, capture: str, options: str) -> int:
    keys = ([c.name for c in source.key], [c.attnum for c in source.key], [c.type_name for c in source.key])
    definition = view.digest(source.oid) if source.has_declared_key else None
    condition = (only_if.name, only_if.attnum) if only_if is not None else (None, None)
    try:
        return int(
            db.atomically(
                lambda: db.value(
                    SQL.insert_pipeline,
                    name,
                    source.oid,
                    *keys,
                    *condition,
                    capture,
                    options,
                    source.qualified,
                    definition,
                )
            )
        )
    except db.DatabaseError as error:
        if not (is_unique_violation(error) or is_lock_unavailable(error)):
            raise
        raise UserError(
            f'pipeline "{name}" is being created by another session',
            "42710",
            hint="Try again when that session is done.",
        ) from error


def insert_generation(
    pipeline_id: int, model: Model, preparation: Preparation, state: str, options: dict[str, Any]
) -> int:
    """Store a new generation and return its id; raises UserError 42704."""
    if not db.run(SQL.lock_model, pipeline_id, model.id):
        raise UserError(
            "the pipeline or its model was dropped by another session", "42704", hint="SELECT * FROM embed_models;"
        )
    return int(
        db.value(
            SQL.insert_generation,
            pipeline_id,
            model.id,
            list(preparation.columns) if preparation.columns is not None else None,
            preparation.template,
            json.dumps(preparation.chunker),
            [c.name for c in preparation.watched],
            [c.attnum for c in preparation.watched],
            state,
            json.dumps(options),
            model.revision,
        )
    )


def _build(pipeline_id: int, source: Source, shown: str, *, backfill: bool) -> int:
    """Create functions, table, view and last the triggers, so that the lock on the source is held briefly."""
    pipeline = pipelines.by_id(pipeline_id)
    assert pipeline is not None
    generation = pipeline.active
    functions.ensure_schema()
    change_log.create(pipeline_id)
    cursors.create(generation.id, backfill=backfill)
    if pipeline.capture == "cdc":
        # Without a backfill triggers capture until the WAL is read; with one all rows are checked anyway.
        handover.request(pipeline_id, triggers=not backfill)
        pipeline = replace(pipeline, triggers=not backfill)
    generated.create_functions(pipeline, source)
    partitions.record(pipeline)
    generation_tables.create_table(pipeline, generation, source)
    db.run(SQL.set_view, pipeline_id, generation_tables.create_view(pipeline, generation, source, shown))
    if pipeline.triggers:
        tables = triggers.captured(pipeline, source)
        names = ", ".join(table.name for table in tables)
        with own_ddl(source.oid, *(table.oid for table in tables)):
            with_short_locks(lambda: _capture(pipeline, tables), names)
    _notify_next_step(pipeline, source, backfill=backfill)
    return pipeline_id


def _capture(pipeline: Pipeline, tables: list[CapturedTable]) -> None:
    for table in tables:
        triggers.remove_leftovers(table.oid)
    triggers.install(pipeline, tables)


def _notify_next_step(pipeline: Pipeline, source: Source, *, backfill: bool) -> None:
    if pipeline.capture == "cdc":
        db.notice(
            "a worker creates the replication slot and then reads the WAL:"
            " SELECT embed_schedule(), evergreen worker, or CALL embed_work()"
        )
    if backfill:
        db.notice(f"{format_row_estimate(source)} to embed; {_next_step(pipeline.name)}")
    else:
        db.notice(f'pipeline "{pipeline.name}" is ready; rows that change from now on are embedded by embed_drain()')


def _next_step(pipeline: str) -> str:
    """Return what embeds the rows of the backfill."""
    if pg_cron.is_scheduled(pipeline):
        return "pg_cron runs a worker that does it; next: SELECT embed_drain() to have it done at once"
    return "next: SELECT embed_drain(), or SELECT embed_schedule() to keep them fresh"
