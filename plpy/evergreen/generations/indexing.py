"""Builds the indexes that generations lack, without stopping a reader, or a writer of the source.

CREATE INDEX CONCURRENTLY cannot run inside a worker: where pg_cron is in this database, it runs it. Without pg_cron a
small table gets a plain index from the worker itself. Only writers of vectors wait for that, and only for a moment
before they continue with other work. For a large table embed_generations reports that the index is missing.
"""

from collections.abc import Callable
from functools import partial

from evergreen import db
from evergreen.catalog import languages, models, options, pipelines
from evergreen.catalog.maintenance import Problem, Task
from evergreen.catalog.pg_cron import index_job
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import format_number
from evergreen.db import event_log
from evergreen.db.errors import in_class
from evergreen.db.privileges import sql_entry
from evergreen.db.queries import load
from evergreen.storage import indexes, recall
from evergreen.storage.indexes import has_pg_cron

SQL = load(__package__)
KINDS = ("vector index", "word index", "recall", "statistics", "old word index")
_SMALL = 128 * 1024 * 1024  # bytes of table: some seconds, a minute at the most
# Without an index a search by keyword splits each chunk into words: about 0.1 ms a chunk of 800 characters.
_WORDS_FROM = 200
_SHORT_OF_RESOURCES = "53"  # class of SQLSTATEs: memory, shared memory, disk
_MODEST = "64MB"
# Milliseconds a vector, measured with 5,000 of 256 dimensions on one core of a busy machine.
_BUILD_MS, _BUILD_MS_A_DIMENSION = 0.3, 0.001
_MINUTES_FROM = 120  # seconds


def due() -> list[Task]:
    """Return a task for each index to create, rebuild or drop. Takes no lock on any generation."""
    least = int(options.get("index_from"))
    tasks = [_task("vector index", row, partial(_vectors, row)) for row in db.rows(SQL.without_index, least)]
    few, language = min(least, _WORDS_FROM), languages.default()
    tasks += [
        _task("word index", row, partial(_words, row)) for row in db.rows(SQL.without_keyword_index, few, language)
    ]
    target = options.GENERATION["recall_target"].default
    tasks += [_task("recall", row, partial(_measure, row)) for row in db.rows(SQL.unmeasured, target)]
    tasks += [_task("statistics", row, partial(_no_statistics, row["name"])) for row in db.rows(SQL.with_statistics)]
    tasks += [
        _task("old word index", row, partial(_drop, row["name"]))
        for row in db.rows(SQL.outdated_keyword_indexes, language)
    ]
    if has_pg_cron():
        tasks.append(Task("index jobs", lambda: db.run(SQL.unschedule_finished, index_job("g"))))
    return tasks


def _task(name: str, row: db.Row, body: Callable[[], Problem | None]) -> Task:
    return Task(name, body, row["pipeline"], row["id"], yields_to=f"embed_store.g{row['id']}")


def _vectors(row: db.Row) -> Problem | None:
    for _, generation in generations_of(row):
        return build(indexes.name(generation), vectors(generation), generation)
    return None


def _words(row: db.Row) -> Problem | None:
    for pipeline, generation in generations_of(row):
        problem = build(row["name"], words_index(pipeline), generation)
        if any(one["name"] == row["name"] for one in db.rows(SQL.with_statistics)):
            _no_statistics(row["name"])  # in the step that makes it: ANALYZE may come at any time
        return problem
    return None


def _measure(row: db.Row) -> None:
    for _, generation in generations_of(row):
        index = indexes.index_of_options(generation, models.vector_schema())
        target = options.GENERATION["recall_target"].default
        recall.measure(generation, index, float(generation.options.get("recall_target", target)))


def not_yet(generation: Generation) -> str | None:
    """Return the notice for a generation that is searched before its index is built; None if it needs no index."""
    row = db.one(SQL.missing_index, generation.id, int(options.get("index_from")))
    if row is None:
        return None
    chunks, dimensions = int(row["chunks"]), generation.model.dimensions
    seconds = chunks * (_BUILD_MS + dimensions * _BUILD_MS_A_DIMENSION) / 1000
    about = f"{max(1, round(seconds))} s" if seconds < _MINUTES_FROM else f"{round(seconds / 60)} min"
    built = "is being built" if db.value(SQL.is_index_building, generation.table) else "is built by the next worker"
    if not has_pg_cron() and db.value(SQL.table_size, generation.table) > _SMALL:
        built = f"is for you to build, with {index_of(generation)};, which takes"
    else:
        built += ", which takes"
    return (
        f"generation {generation.id} has no HNSW index yet: until then each search reads all of its"
        f" {format_number(chunks)} vectors. The index {built} about {about}"
    )


def index_of(generation: Generation) -> str:
    """Return the statement that makes the index over a generation's vectors, as one types it."""
    return _statement(indexes.name(generation), vectors(generation), generation.table, "CONCURRENTLY IF NOT EXISTS")


def generations_of(row: db.Row) -> list[tuple[Pipeline, Generation]]:
    """Return the generation that a task is for, with its pipeline; nothing where it cannot be worked on."""
    pipeline = pipelines.by_id(row["pipeline"])
    if pipeline is None or pipeline.missing_part is not None:
        return []
    return [(pipeline, g) for g in pipeline.generations if g.id == row["id"]]


def build(name: str, method: str, generation: Generation) -> Problem | None:
    """Take the next step towards an index: here, or by a job of pg_cron."""
    if db.value(SQL.is_index_building, generation.table):
        return None
    if db.value(SQL.is_index_invalid, name):  # CREATE INDEX CONCURRENTLY has failed
        _drop(name)
    if has_pg_cron():
        return _by_cron(name, method, generation)
    if db.value(SQL.table_size, generation.table) <= _SMALL:
        _create(_statement(name, method, generation.table, "IF NOT EXISTS"), generation)
    return None


def _create(statement: str, generation: Generation) -> None:
    """Make an index; where resources are short, once more with as few as possible.

    Workers that build in parallel share memory of maintenance_work_mem, more than a container has unless it is told.
    """
    create = partial(db.ddl, SQL.create_index.with_identifiers(statement=statement))
    try:
        db.atomically(create)
    except db.DatabaseError as error:
        if not in_class(error, _SHORT_OF_RESOURCES):
            raise
        event_log.info("index_built_modestly", generation=generation.id, error=db.sqlstate(error))
        db.run(SQL.limit_index_build, _MODEST)
        create()


def _by_cron(name: str, method: str, generation: Generation) -> Problem | None:
    """Have pg_cron make an index; a run that failed is a problem, and the job waits like any task."""
    job = index_job(name)
    number = db.value(SQL.scheduled_job, job)
    if number is None:
        db.run(SQL.schedule, job, _statement(name, method, generation.table, "CONCURRENTLY IF NOT EXISTS"))
        return None
    failure = db.value(SQL.last_job_failure, number)
    if failure is None:
        return None
    db.run(SQL.unschedule, number)
    db.ddl(
        SQL.disable_parallel_builds.with_identifiers(table=generation.table)
    )  # it may have been for want of shared memory
    return Problem("58000", failure)


def _statement(name: str, method: str, table: str, how: str) -> str:
    return f"CREATE INDEX {how} {name} ON {table} USING {method}"


@sql_entry
def index_statement(number: int | None) -> str | None:
    """Body of embed.index_statement(): what makes the index over a generation's vectors; NULL where there is none."""
    row = db.one(SQL.find_generation, number)
    found = [generation for _, generation in generations_of(row)] if row is not None else []
    return index_of(found[0]) if found else None


def vectors(generation: Generation) -> str:
    """Return the method and definition of the index over a generation's vectors."""
    return f"hnsw ({indexes.index_of_options(generation, models.vector_schema()).definition('embedding')})"


def words_index(pipeline: Pipeline) -> str:
    """Return the method and definition of the index over a pipeline's words."""
    return f"gin (({indexes.words_expression('chunk', indexes.language_constant(languages.of(pipeline.options)))}))"


def _drop(name: str) -> None:
    db.ddl(SQL.drop_index.with_identifiers(name=name))


def _no_statistics(name: str) -> None:
    """Keep words of texts out of the statistics, which embed_forget does not erase."""
    db.ddl(SQL.no_statistics.with_identifiers(name=name))
    db.run(SQL.forget_statistics, name)
