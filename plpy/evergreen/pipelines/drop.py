"""embed_drop: removes a pipeline, and its vectors unless they are kept."""

from evergreen import db
from evergreen.capture import dependencies, triggers
from evergreen.capture.triggers import own_ddl
from evergreen.capture.wal import handover, slot
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.errors import is_dependency
from evergreen.db.locks import set_lock_timeout, with_short_locks
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.limits import state
from evergreen.queue import change_log, claims, links
from evergreen.source import functions, link_functions
from evergreen.storage import batch_spool, bridges, documents, drop_locks, generation_tables, usage

SQL = load(__package__)
_WORKERS_TIMEOUT = "3s"


@sql_entry
def embed_drop(pipeline: str | None, keep_embeddings: bool | None, if_exists: bool | None) -> None:
    """Remove a pipeline; raises 42704, 42501, 2BP01 (a view of the user depends on ours), 55P03."""
    role = caller()

    def drop() -> None:
        if if_exists and pipeline is not None and pipelines.find(pipeline) is None:
            db.notice(f'pipeline "{pipeline}" does not exist, skipping')
            return
        found = _locked(pipelines.owned(pipeline, role, whole=False))
        _drop_view(found)
        drop_locks.take(found.generations)
        for generation in found.generations:
            _remove_table(found, generation, keep=bool(keep_embeddings))
        # Workers give back their claims on the pipeline, because they can no longer reach its vectors.
        set_lock_timeout(_WORKERS_TIMEOUT)
        _delete_work(found)
        db.run(SQL.delete_generations, found.id)
        batch_spool.drop_unneeded(found.id)
        bridges.delete([generation.id for generation in found.generations])  # last: embed_bridge locks generations
        db.run(SQL.delete_pipeline, found.id)
        state.drop("pipeline", found.id, state.BUDGET)
        with own_ddl(found.source, *(link.base for link in found.links)):
            with_short_locks(lambda: _stop_capture(found), found.source_name or found.name)
        _drop_functions(found)
        if found.capture == "cdc":
            handover.drop_if_unused()

    as_extension_owner(drop)


def _delete_work(pipeline: Pipeline) -> None:
    """Delete all that is queued and stored of a pipeline, except its vectors."""
    generations = [generation.id for generation in pipeline.generations]
    change_log.delete(pipeline.id)
    links.delete([link.id for link in pipeline.links])
    dependencies.delete(pipeline.id)
    handover.delete(pipeline.id)
    claims.delete_work(generations)
    usage.delete(pipeline.id)
    documents.delete_all(generations)


def _locked(pipeline: Pipeline) -> Pipeline:
    """Lock the pipeline, so that no generation is added, and return it as it is then."""
    db.run(SQL.lock_pipeline, pipeline.id)
    found = pipelines.by_id(pipeline.id)
    if found is None:
        raise pipelines.missing(pipeline.name)
    return found


def _stop_capture(pipeline: Pipeline) -> None:
    """Stop capture; a table left in the publication would need a replica identity for UPDATE and DELETE."""
    triggers.remove(pipeline)
    slot.unpublish_unused(pipeline.source)


def _drop_view(pipeline: Pipeline) -> None:
    view = generation_tables.relation_name(pipeline.view)
    if view is None:
        return
    try:
        db.atomically(lambda: generation_tables.drop_view(view))
    except db.DatabaseError as error:
        if not is_dependency(error):
            raise
        raise UserError(
            f'cannot drop pipeline "{pipeline.name}": other objects depend on view {view}',
            "2BP01",
            hint="Drop those first; \\d+ of the view or pg_depend lists them.",
        ) from error


def _remove_table(pipeline: Pipeline, generation: Generation, *, keep: bool) -> None:
    table = {"table": generation.table}
    home = db.one(SQL.source_schema, pipeline.source)
    if not keep or home is None:
        generation_tables.drop_table(generation)
        return
    # From here on an ordinary table of the source's owner, who decides on access.
    generation_tables.detach(generation)
    name = f"{pipeline.name[:40]}_embedding_kept_{generation.id}"
    db.ddl(SQL.rename_table.with_identifiers(**table, name=db.identifier(name)))
    kept = {"table": f"embed_store.{db.identifier(name)}"}
    db.ddl(SQL.move_table.with_identifiers(**kept, schema=db.identifier(home["schema"])))
    moved = f"{db.identifier(home['schema'])}.{db.identifier(name)}"
    db.ddl(SQL.set_table_owner.with_identifiers(table=moved, owner=db.identifier(home["owner"])))
    db.notice(f"kept vectors are in table {moved}")


def _drop_functions(pipeline: Pipeline) -> None:
    signatures = [f"capture_{pipeline.id}()", f"count_{pipeline.id}()"]
    signatures += [f"scan_{pipeline.id}(jsonb, int)", f"key_{pipeline.id}(jsonb)"]
    for generation in pipeline.generations:
        signatures += [f"reader_{generation.id}(jsonb)", f"src_{generation.id}()"]
    signatures += [f"capture_{pipeline.id}_{part}()" for part in {link.part for link in pipeline.links}]
    signatures += [s.split(".", 1)[1] for link in pipeline.links for s in link_functions.signatures(link)]
    for signature in signatures:
        functions.drop(f"embed_store.{signature}")
