"""Pipelines restored from a dump, or found in a copy of the database."""

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.pipeline import Pipeline
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.embedding.limits import state
from evergreen.queue import backfill, change_log, claims
from evergreen.storage import batch_spool, documents, generation_tables, vector_cache

SQL = load(__package__)


def was_restored(pipeline: Pipeline) -> bool:
    """Return whether the catalog was restored or cloned since the last check; column numbers are then meaningless."""
    here = db.one(SQL.current_identity)
    assert here is not None
    return pipeline.seen != (here["system_identifier"], here["database_oid"], pipeline.source)


def is_clone(pipeline: Pipeline) -> bool:
    """Return whether this is a copy of the whole database, in which every OID and column number is still valid."""
    here = db.one(SQL.current_identity)
    assert here is not None
    return (pipeline.seen[0], pipeline.seen[2]) == (here["system_identifier"], pipeline.source)


def is_bound_here(pipeline: Pipeline) -> bool:
    """True when the source's OID was found in this database, as embed.bind_restored() does, and not only restored."""
    here = db.one(SQL.current_identity)
    assert here is not None
    return pipeline.seen[1] == here["database_oid"]


def find_by_name(pipeline: Pipeline) -> Pipeline:
    """Bind the pipeline to the table of its stored name where its oid means nothing.

    That is so in another database, and where the table was dropped and made again with event triggers off. A table of
    that name that belongs to another role is not the pipeline's.
    """
    if was_restored(pipeline) and not is_clone(pipeline):
        is_bound = pipeline.source == (db.value(SQL.named_source, pipeline.id) or 0) or (
            is_bound_here(pipeline) and pipeline.source_name == pipeline.recorded_name
        )
    else:
        is_bound = (
            pipeline.source_name is not None
            or pipeline.broken_reason is not None
            or db.value(SQL.named_source, pipeline.id) is None
        )
    if is_bound or not db.run(SQL.bind_by_name, pipeline.id):
        return pipeline
    found = pipelines.by_id(pipeline.id)
    assert found is not None
    return found


def adopt(pipeline: Pipeline) -> None:
    """Adopt a restored pipeline: discard the other server's leases and transaction ids, and check all rows."""
    state.create_all()
    generations = [generation.id for generation in pipeline.generations]
    models = [g.known_model.id for g in pipeline.generations if g.known_model is not None]
    claims.release_all(generations)
    vector_cache.clear_all_in_flight(models)
    batch_spool.discard(pipeline.id)
    change_log.reset_scan_start(pipeline.id)
    documents.advance_ids()
    if pipeline.missing_part is None:
        for generation in pipeline.generations:
            generation_tables.repair(pipeline, generation)
    backfill.restart(pipeline.id)
    documents.recount(pipeline.id)
    for row in db.rows(SQL.altered_triggers):
        with_lock_timeout(lambda row=row: db.ddl(SQL.enable_trigger.with_identifiers(**row)), "50ms")
    here = db.one(SQL.current_identity)
    assert here is not None
    db.run(SQL.set_seen, pipeline.id, here["system_identifier"], here["database_oid"], pipeline.source)
