"""Maintenance: missing indexes, failed tasks of workers, and tables without a pipeline."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Database, Row
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.report import pluralize

_WITHOUT_INDEX = """
SELECT g.pipeline, g.generation, g.chunks, embed.index_statement(g.generation) AS statement, e.sqlstate, e.message,
       pg_catalog.to_char(e.retry_at, 'HH24:MI:SS') AS retry_at
FROM {schema}.embed_generations g
LEFT JOIN embed.maintenance_error e ON e.task = 'vector index' AND e.generation = g.generation
WHERE g.state <> 'previous' AND NOT g.backfilling AND NOT g.indexed
  AND g.chunks >= {schema}.embed_setting('index_from')::bigint
"""
_FAILED_TASKS = """
SELECT e.task, p.name AS pipeline, e.generation, e.failures, e.message, e.sqlstate,
       pg_catalog.to_char(e.retry_at, 'HH24:MI:SS') AS retry_at
FROM embed.maintenance_error e LEFT JOIN embed.pipeline p ON p.id = e.pipeline
WHERE e.task <> 'vector index' AND (e.pipeline = 0 OR p.id IS NOT NULL)
  AND (e.failures > 2 OR e.sqlstate NOT IN ('55P03', '40P01', '55006'))
ORDER BY e.task, e.pipeline, e.generation
"""
_LOW_RECALL = """
SELECT g.pipeline, g.generation, g.recall, g.ef_search, r.target
FROM {schema}.embed_generations g JOIN embed.index_recall r ON r.generation = g.generation
WHERE g.state <> 'previous' AND g.indexed AND g.recall < r.target ORDER BY g.generation
"""
_HOLDERS = """
SELECT DISTINCT l.pid, a.usename, a.application_name
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.relation = pg_catalog.to_regclass('embed_store.g' || %s) AND l.mode <> 'AccessShareLock'
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
ORDER BY l.pid
"""
_LOW_MEMORY_SETTINGS = "SET max_parallel_maintenance_workers = 0; SET maintenance_work_mem = '64MB'"
# SQLSTATE, a part of the message, the remedy, and settings with which the build succeeds.
_REMEDIES = (
    (
        "53100", "shared memory", "increase it (docker run --shm-size=1g), or build in one process:",
        _LOW_MEMORY_SETTINGS,
    ),
    ("53100", "", "it is built automatically when there is disk space", _LOW_MEMORY_SETTINGS),
    ("53200", "", "a slower build needs less memory:", _LOW_MEMORY_SETTINGS),
    ("42501", "tablespace", "build it in another tablespace:", "SET default_tablespace = 'pg_default'"),
)  # fmt: skip
_PROGRAM_LIMIT_EXCEEDED = "54000"  # pgvector's limit on dimensions
_LOCK_ERRORS = {"55P03", "40P01"}


def indexes(database: Database) -> Iterator[Finding]:
    """Generations that need an HNSW index and have none, with the reason."""
    for row in database.rows(_WITHOUT_INDEX):
        vectors = pluralize(row["chunks"], "vector")
        message = f"pipeline {row['pipeline']} has {vectors} and no index; every search scans all of them"
        yield Finding("index", "warning", *_advice(database, row, message))


def recall(database: Database) -> Iterator[Finding]:
    """Indexes that find too few of the nearest chunks, whatever the width of the search."""
    for row in database.rows(_LOW_RECALL):
        message = (
            f"the index of pipeline {row['pipeline']} finds {row['recall']:.0%} of the nearest chunks, below"
            f" recall_target {row['target']:g}, at ef_search {row['ef_search']}. Rebuild the index:"
        )
        yield Finding("recall", "warning", message, f"REINDEX INDEX embed_store.g{row['generation']}_embedding_idx;")


def _advice(database: Database, row: Row, message: str) -> tuple[str, str]:
    """Return the message with the reason, and what to type."""
    build = f"{row['statement']};"
    if row["sqlstate"] is None:
        return message, build
    message = f"{message}; the build failed and is retried at {row['retry_at']}: {row['message']}"
    if row["sqlstate"] in _LOCK_ERRORS:
        return _blocked(database, row["generation"], message)
    if row["sqlstate"] == _PROGRAM_LIMIT_EXCEEDED:
        return f"{message}; build a generation with smaller storage (halfvec or bit):", _rebuild(
            database, row["pipeline"]
        )
    return next(
        (
            (f"{message}; {remedy}", f"{settings}; {build}")
            for state, word, remedy, settings in _REMEDIES
            if row["sqlstate"] == state and word in row["message"]
        ),
        (message, build),
    )


def _blocked(database: Database, generation: int, message: str) -> tuple[str, str]:
    blockers = database.rows(_HOLDERS, generation)
    if not blockers:
        return f"{message}; the blocking session has ended", ""
    client = f"{blockers[0]['usename']} ({blockers[0]['application_name'] or blockers[0]['pid']})"
    return f"{message}; blocked by a transaction of {client}", f"SELECT pg_terminate_backend({blockers[0]['pid']});"


def _rebuild(database: Database, pipeline: str) -> str:
    call = 'SELECT {}.embed_build({}, options => \'{{"storage": "auto"}}\');'
    filled = sql.SQL(call).format(sql.Identifier(database.schema), sql.Literal(pipeline))
    return filled.as_string(database.connection)


def failed_tasks(database: Database) -> Iterator[Finding]:
    """Other maintenance tasks that failed last time."""
    for row in database.rows(_FAILED_TASKS):
        of = f" of pipeline {row['pipeline']}" if row["pipeline"] is not None else ""
        of += f", generation {row['generation']}," if row["generation"] else ""
        yield Finding(
            "maintenance",
            "warning",
            f"maintenance{of} ({row['task']}) failed {pluralize(row['failures'], 'time')} and is retried at"
            f" {row['retry_at']}; embedding continues: {row['message']}",
        )


# Only members of embed_admin see every generation.
_ORPHANED_TABLES = """
SELECT c.oid::pg_catalog.regclass::text AS name, pg_catalog.substr(c.relname, 2) AS number
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'embed_store'
WHERE c.relkind = 'r' AND c.relname ~ '^g[0-9]+$' AND pg_catalog.pg_has_role('embed_admin', 'USAGE')
  AND NOT EXISTS (SELECT FROM {schema}.embed_generations g WHERE 'g' || g.generation = c.relname)
ORDER BY pg_catalog.substr(c.relname, 2)::int
"""


def orphaned_tables(database: Database) -> Iterator[Finding]:
    """Tables without a pipeline, left by DROP EXTENSION or by a restore without the catalog."""
    rows = list(database.rows(_ORPHANED_TABLES))
    if not rows:
        return
    names = ", ".join(row["name"] for row in rows)
    parents = ", ".join(f"embed_store.readable_{row['number']}" for row in rows)
    yield Finding(
        "store",
        "warning",
        f"the vectors in {names} belong to no pipeline; restore the tables of schema embed, or drop the vectors",
        f"DROP TABLE IF EXISTS {parents}, {names} CASCADE;",
    )
