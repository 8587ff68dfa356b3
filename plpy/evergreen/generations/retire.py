"""embed_retire, and the retirement of expired previous generations by workers."""

from functools import partial

from evergreen import db
from evergreen.capture import generated
from evergreen.catalog import options, pipelines
from evergreen.catalog.maintenance import Task
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log
from evergreen.db.locks import with_short_locks
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.generations.build import hold
from evergreen.queue import claims
from evergreen.source import functions, table
from evergreen.storage import batch_spool, bridges, documents, drop_locks, generation_tables

SQL = load(__package__)
KINDS = ("retirement",)


@sql_entry
def embed_retire(pipeline: str | None, generation: int | None) -> None:
    """Drop the previous generations, or the one that is named; raises 42704, 42501, 55000 (the active one), 55P03."""
    role = caller()

    def retire() -> None:
        found = pipelines.owned(pipeline, role)
        hold(found)
        wanted = [_named(found, generation)] if generation is not None else [*found.previous]
        drop_locks.take(wanted)
        with_short_locks(lambda: _take(found, wanted), f"of pipeline {found.name}")
        numbers = ", ".join(str(g.id) for g in wanted)
        db.notice(f"generations retired: {numbers}" if wanted else "there is no previous generation")

    as_extension_owner(retire)


def _named(pipeline: Pipeline, number: int) -> Generation:
    found = next((g for g in pipeline.generations if g.id == number), None)
    if found is None:
        raise UserError(
            f'pipeline "{pipeline.name}" has no generation {number}', "42704", hint="embed_generations lists them."
        )
    if found.state == "active":
        raise UserError(
            f'generation {number} is the active one of pipeline "{pipeline.name}"',
            "55000",
            hint="Promote another one first, or embed_drop() the pipeline.",
        )
    return found


def _take(pipeline: Pipeline, generations: list[Generation]) -> None:
    """Take generations away: catalog rows first, then, with a lock on each table, what was made for them."""
    for generation in generations:
        claims.delete_work([generation.id])
        documents.delete_all([generation.id])
        bridges.delete([generation.id])
        db.run(SQL.delete_generation, generation.id)
        batch_spool.drop_unneeded(pipeline.id)
        generation_tables.drop_table(generation)
        for signature in (f"reader_{generation.id}(jsonb)", f"src_{generation.id}()"):
            functions.drop(f"embed_store.{signature}")
        event_log.info("generation_retired", pipeline=pipeline.name, generation=generation.id)
    left, source = pipelines.by_id(pipeline.id), table.of_pipeline(pipeline)
    if generations and left is not None and source is not None and left.broken_reason is None:
        with functions.without_body_checks():
            generated.create_functions(left, source)  # what only these watched is watched no more


def due() -> list[Task]:
    """Return a task for each generation that was kept for ``previous_kept``."""
    default = options.PIPELINE["previous_kept"].default
    return [
        Task("retirement", partial(_retire, row["pipeline"], row["id"]), row["pipeline"], row["id"])
        for row in db.rows(SQL.expired_generations, default)
    ]


def _retire(pipeline_id: int, generation: int) -> None:
    """Retire one, unless another session is just promoting or retiring it."""
    if db.run(SQL.lock_previous, generation):
        found = pipelines.by_id(pipeline_id)
        if found is not None:
            _take(found, [g for g in found.previous if g.id == generation])
