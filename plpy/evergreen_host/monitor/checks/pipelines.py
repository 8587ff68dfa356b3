"""Pipelines that are broken, paused, over budget, or have dead letters."""

import json
import math
from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Database, Row
from evergreen_host.monitor import lateness, status
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.monitor.checks.workers import start_statement
from evergreen_host.report import pluralize

_STATES = """
SELECT s.pipeline, s.state, s.failed, s.last_error, s.spent_budgets, p.options
FROM {schema}.embed_status s JOIN {schema}.embed_pipelines p USING (pipeline)
WHERE s.state <> 'active' OR s.failed > 0 OR s.last_error IS DISTINCT FROM s.maintenance_error ORDER BY s.pipeline
"""
_ESTIMATE = "SELECT tokens AS daily_tokens, cost AS daily_cost FROM {schema}.embed_estimate(%s)"
# The server's message contains the path of the file, and so the oid of its tablespace.
_TABLESPACES_IN_ERROR = """
SELECT pg_catalog.format('ALTER %%s embed_store.%%I SET TABLESPACE pg_default',
                         CASE c.relkind WHEN 'r' THEN 'TABLE' ELSE 'INDEX' END, c.relname) AS statement,
       t.spcname AS tablespace, pg_catalog.pg_tablespace_location(t.oid) AS location
FROM {schema}.embed_generations g
JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.to_regclass('embed_store.g' || g.generation)
JOIN pg_catalog.pg_class c
  ON c.oid = r.oid OR c.oid IN (SELECT i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = r.oid)
JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
WHERE g.pipeline = %s AND pg_catalog.strpos(%s, 'pg_tblspc/' || t.oid || '/') > 0 ORDER BY c.relkind DESC, c.relname
"""
_CHANGED_MODEL = """
SELECT g.model, m.settled,
       EXISTS (SELECT FROM {schema}.embed_generations b
               WHERE b.pipeline = g.pipeline AND b.state = 'building'
                 AND (b.model <> g.model OR b.model_revision = m.revision)) AS rebuilt
FROM {schema}.embed_generations g JOIN {schema}.embed_models m ON m.model = g.model
WHERE g.pipeline = %s AND g.state = 'active'
"""
_DISK_FULL = "the disk is full"  # start of embed_status.last_error


def _disk_full(database: Database, pipeline: str, error: str) -> Finding:
    """Advise to move relations off a full tablespace; in the default tablespace only free space helps."""
    relations = database.rows(_TABLESPACES_IN_ERROR, pipeline, error)
    where = "default tablespace"
    if relations:
        where = f"in tablespace {relations[0]['tablespace']}, {relations[0]['location']}"
    message = f"rows of pipeline {pipeline} are waiting ({where}): {error}"
    statements = "; ".join(row["statement"] for row in relations)
    return Finding("disk", "error", message, f"{statements};" if relations else "")


def _call(database: Database, text: str, pipeline: str) -> str:
    filled = sql.SQL(text)  # pyright: ignore[reportArgumentType]
    return filled.format(sql.Identifier(database.schema), sql.Literal(pipeline)).as_string(database.connection)


def raised(kind: str, limit: float, needed: float) -> int | float:
    """Return a budget for what is needed, of at least twice the limit; costs have three digits, however small."""
    budget = max(2 * limit, limit + 1.5 * needed)
    return math.ceil(budget) if kind == "daily_tokens" else float(f"{budget:.3g}")


def _over_budget(database: Database, row: Row) -> Finding:
    """Advise to raise the spent budgets: to what the pending rows need, at least to twice the limit."""
    name, kinds = row["pipeline"], row["spent_budgets"]
    estimate = database.rows(_ESTIMATE, name)[0]
    budgets: dict[str, int | float] = {}
    for kind in kinds:
        budgets[kind] = raised(kind, row["options"][kind], float(estimate[kind] or 0))
    message = f"pipeline {name} has spent today's {' and '.join(kinds)}; it continues at midnight UTC"
    call = f"SELECT {{}}.embed_alter({{}}, '{json.dumps(budgets).replace('{', '{{').replace('}', '}}')}');"
    return Finding("budget", "warning", message, _call(database, call, name))


def _model_changed(database: Database, row: Row) -> Finding:
    """Name both ways out: a rebuild by what is served now, and accepting it as the same model."""
    name = row["pipeline"]
    active = database.rows(_CHANGED_MODEL, name)[0]
    message = f"pipeline {name} writes no vectors: {row['last_error']}"
    if not active["settled"]:
        return Finding("model changed", "error", f"{message}; work resumes when its endpoint serves one model only")
    if active["rebuilt"]:
        return Finding("model changed", "warning", f"{message}; the generation that is being built replaces them")
    accept = sql.SQL("SELECT {}.embed_model_accept({});").format(
        sql.Identifier(database.schema), sql.Literal(active["model"])
    )
    message += f"; if it is the same model after all: {accept.as_string(database.connection)}; to embed again:"
    return Finding("model changed", "error", message, _call(database, "SELECT {}.embed_build({});", name))


def states(database: Database) -> Iterator[Finding]:
    """Pipelines that have stopped, and rows that failed."""
    for row in database.rows(_STATES):
        name = row["pipeline"]
        if row["state"] == "broken":
            yield Finding("pipeline", "error", f"pipeline {name} is broken: {row['last_error']}")
        elif row["state"] == "paused":
            yield Finding(
                "pipeline",
                "warning",
                f"pipeline {name} is paused",
                _call(database, "SELECT {}.embed_resume({});", name),
            )
        elif row["spent_budgets"] and row["state"] != "model changed":
            yield _over_budget(database, row)
        elif row["state"] == "model changed":
            yield _model_changed(database, row)
        elif row["last_error"] and row["last_error"].startswith(_DISK_FULL):
            yield _disk_full(database, name, row["last_error"])
        elif row["last_error"] and not row["failed"]:
            yield Finding(
                "pipeline", "error", f"rows of pipeline {name} are waiting after an error: {row['last_error']}"
            )
        if row["failed"]:
            message = (
                f"{pluralize(row['failed'], 'row')} of pipeline {name} failed for good; last error: {row['last_error']}"
            )
            yield Finding("dead letters", "warning", message, _call(database, "SELECT {}.embed_retry({});", name))


def late(database: Database) -> Iterator[Finding]:
    """Live changes that wait for longer than option max_lag allows."""
    rows = [row for row in status.read(database, None) if row["state"] == "late"]
    for name, message in lateness.reasons(database, rows).items():
        advice = start_statement(database) if message.endswith(lateness.NO_WORKER) else ""
        yield Finding("late", "error", f"pipeline {name} is {message}", advice)
