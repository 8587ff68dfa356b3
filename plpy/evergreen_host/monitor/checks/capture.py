"""Whether changes are seen: the triggers on the sources."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Link
from evergreen_host.monitor.checks.finding import Finding

# Those of partitions, too. The number of a pipeline stands in the names of its triggers and of its function.
_DISABLED = """
SELECT p.pipeline, t.tgname AS trigger, t.tgrelid::pg_catalog.regclass::text AS "table"
FROM {schema}.embed_pipelines p
JOIN pg_catalog.pg_proc f ON f.oid = pg_catalog.to_regproc('embed_store.capture_' || p.id)
JOIN pg_catalog.pg_trigger t ON t.tgfoid = f.oid AND NOT t.tgisinternal
WHERE t.tgenabled <> 'A' ORDER BY p.pipeline, 3, 2
"""
_MISSING = """
SELECT p.pipeline, p.source::text AS "table"
FROM {schema}.embed_pipelines p
WHERE p.capture = 'trigger' AND p.source IS NOT NULL
  AND (SELECT count(*) FROM pg_catalog.pg_trigger t
       WHERE t.tgrelid = p.source AND t.tgfoid = pg_catalog.to_regproc('embed_store.capture_' || p.id)) < 4
ORDER BY p.pipeline
"""


def triggers(link: Link) -> Iterator[Finding]:
    """Triggers that are disabled or were dropped; what they missed is then looked for."""
    for row in link.rows(_DISABLED):
        trigger = sql.Identifier(row["trigger"]).as_string(link.connection)
        yield Finding(
            "trigger",
            "error",
            f"trigger {row['trigger']} on table {row['table']} does not fire always: changes are missed",
            f"ALTER TABLE {row['table']} ENABLE ALWAYS TRIGGER {trigger}; {_check(link, row['pipeline'])}",
        )
    for row in link.rows(_MISSING):
        name = sql.Literal(row["pipeline"]).as_string(link.connection)
        where = sql.Identifier(link.schema).as_string(link.connection)
        again = "; ".join(f"SELECT {where}.embed_capture_set({name}, '{capture}')" for capture in ("manual", "trigger"))
        yield Finding(
            "trigger",
            "error",
            f"triggers of pipeline {row['pipeline']} are missing on table {row['table']}: changes are missed",
            f"{again}; {_check(link, row['pipeline'])}",
        )


def _check(link: Link, pipeline: str) -> str:
    call = sql.SQL("SELECT * FROM {}.embed_verify({}, repair => true);")
    return call.format(sql.Identifier(link.schema), sql.Literal(pipeline)).as_string(link.connection)
