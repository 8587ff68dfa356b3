"""Builds the index of a generation that has enough rows, without stopping a reader, or a writer of the source.

CREATE INDEX CONCURRENTLY cannot run inside a worker: where pg_cron is in this database, it runs it. Without pg_cron a
small table gets a plain index from the worker itself, which nobody but writers of vectors wait for, and they only
for a moment before they go on with something else; of a large one embed_generations says that its index is missing.
"""

from evergreen import db
from evergreen.catalog import models, pipelines
from evergreen.catalog.pipelines import Generation
from evergreen.generations import index
from evergreen.patience import patiently
from evergreen.queries import load
from evergreen.setup import setting

SQL = load(__file__)

_SMALL = 128 * 1024 * 1024  # bytes of table: some seconds, a minute at the most


def look_after() -> None:
    """Take a step for each generation that should have an index and has none."""
    for row in db.rows(SQL.without_index, int(setting.get("index_from"))):
        pipeline = pipelines.by_id(row["pipeline"])
        found = [g for g in pipeline.generations if g.id == row["id"]] if pipeline is not None else []
        for generation in found:
            _step(generation, bytes_=row["bytes"], broken=row["is_broken"])
    if _has_cron():
        db.run(SQL.unschedule_done)


def _step(generation: Generation, *, bytes_: int, broken: bool) -> None:
    if broken:  # CREATE INDEX CONCURRENTLY is under way, or has failed
        if not db.value(SQL.is_under_way, generation.table):
            patiently(lambda: db.ddl(SQL.drop.on(name=index.name(generation))), "50ms")
    elif _has_cron():
        if not db.value(SQL.is_scheduled, _job(generation)):
            db.run(SQL.schedule, _job(generation), statement(generation, concurrently=True))
    elif bytes_ <= _SMALL:
        patiently(lambda: db.ddl(SQL.create.on(statement=statement(generation, concurrently=False))), "50ms")


def statement(generation: Generation, *, concurrently: bool) -> str:
    """Return the statement that makes the index."""
    found = index.of(generation, models.vector_schema())
    how = "CONCURRENTLY IF NOT EXISTS" if concurrently else "IF NOT EXISTS"
    return (
        f"CREATE INDEX {how} {index.name(generation)} ON {generation.table}"
        f" USING hnsw ({found.definition('embedding')})"
    )


def _job(generation: Generation) -> str:
    return f"evergreen index {db.value(SQL.database)} g{generation.id}"


def _has_cron() -> bool:
    return bool(db.value(SQL.has_cron))
