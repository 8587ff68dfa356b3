"""Builds the indexes that generations lack, without stopping a reader, or a writer of the source.

CREATE INDEX CONCURRENTLY cannot run inside a worker: where pg_cron is in this database, it runs it. Without pg_cron a
small table gets a plain index from the worker itself, which nobody but writers of vectors wait for, and they only
for a moment before they go on with something else; of a large one embed_generations says that its index is missing.
"""

from evergreen import db
from evergreen.catalog import languages, models, pipelines
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.gate import entry
from evergreen.generations import index, words
from evergreen.patience import patiently
from evergreen.queries import load
from evergreen.setup import setting

SQL = load(__file__)

_SMALL = 128 * 1024 * 1024  # bytes of table: some seconds, a minute at the most


def look_after() -> None:
    """Take a step for each generation that should have an index and has none, or has one that it should not have."""
    for row in db.rows(SQL.without_index, int(setting.get("index_from"))):
        for _, generation in _generations(row):
            _step(index.name(generation), vectors(generation), generation.table, row)
    for row in db.rows(SQL.without_words, int(setting.get("index_from"))):
        for pipeline, generation in _generations(row):
            _step(row["name"], _words(pipeline), generation.table, row)
    for row in db.rows(SQL.with_statistics):
        patiently(lambda name=row["name"]: _no_statistics(name), "50ms")
    for row in db.rows(SQL.other_words):
        patiently(lambda name=row["name"]: db.ddl(SQL.drop.on(name=name)), "50ms")
    if _has_cron():
        db.run(SQL.unschedule_done)


def _generations(row: db.Row) -> list[tuple[Pipeline, Generation]]:
    pipeline = pipelines.by_id(row["pipeline"])
    return [(pipeline, g) for g in pipeline.generations if g.id == row["id"]] if pipeline is not None else []


def _step(name: str, method: str, table: str, state: db.Row) -> None:
    if state["is_broken"]:  # CREATE INDEX CONCURRENTLY is under way, or has failed
        if not db.value(SQL.is_under_way, table):
            patiently(lambda: db.ddl(SQL.drop.on(name=name)), "50ms")
    elif _has_cron():
        job = f"evergreen index {db.value(SQL.database)} {name}"
        if not db.value(SQL.is_scheduled, job):
            db.run(SQL.schedule, job, _statement(name, method, table, "CONCURRENTLY IF NOT EXISTS"))
    elif state["bytes"] <= _SMALL:
        patiently(lambda: db.ddl(SQL.create.on(statement=_statement(name, method, table, "IF NOT EXISTS"))), "50ms")


def _statement(name: str, method: str, table: str, how: str) -> str:
    return f"CREATE INDEX {how} {name} ON {table} USING {method}"


@entry
def index_statement(number: int | None) -> str | None:
    """Body of embed.index_statement(): what makes the index over a generation's vectors; NULL where there is none."""
    row = db.one(SQL.pipeline_of, number)
    found = [generation for _, generation in _generations(row)] if row is not None else []
    how = "CONCURRENTLY IF NOT EXISTS"
    return _statement(index.name(found[0]), vectors(found[0]), found[0].table, how) if found else None


def vectors(generation: Generation) -> str:
    """Return the method and definition of the index over a generation's vectors."""
    return f"hnsw ({index.of(generation, models.vector_schema()).definition('embedding')})"


def _words(pipeline: Pipeline) -> str:
    return f"gin (({words.of('chunk', words.constant(languages.of(pipeline.options)))}))"


def _no_statistics(name: str) -> None:
    """Leave no words of texts in the statistics, where nobody erases them."""
    db.ddl(SQL.no_statistics.on(name=name))
    db.run(SQL.forget_statistics, name)


def _has_cron() -> bool:
    return bool(db.value(SQL.has_cron))
