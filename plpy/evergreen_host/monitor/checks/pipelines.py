"""Each pipeline: broken, paused, over budget, dead letters."""

import json
import math
from collections.abc import Iterator

from psycopg import sql

from evergreen_host.database import Link, Row
from evergreen_host.monitor.checks.finding import Finding

_STATES = """
SELECT s.pipeline, s.state, s.failed, s.last_error, s.spent_budgets, p.options
FROM {schema}.embed_status s JOIN {schema}.embed_pipelines p USING (pipeline)
WHERE s.state <> 'active' OR s.failed > 0 OR s.last_error IS DISTINCT FROM s.maintenance_error ORDER BY s.pipeline
"""
_NEEDED = "SELECT tokens AS daily_tokens, cost AS daily_cost FROM {schema}.embed_estimate(%s)"
# The path of a file in a tablespace, in the message of the server, has the tablespace's oid.
_ON_A_FULL_DISK = """
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
_DISK_FULL = "the disk is full"  # as embed_status says


def _disk_full(link: Link, pipeline: str, error: str) -> Finding:
    """What is not in a tablespace of its own lies where the database does: there only room helps."""
    there = link.rows(_ON_A_FULL_DISK, pipeline, error)
    where = f"in tablespace {there[0]['tablespace']}, {there[0]['location']}" if there else "where the database lies"
    says = f"rows of pipeline {pipeline} wait ({where}): {error}"
    statements = "; ".join(row["statement"] for row in there)
    return Finding("disk", "error", says, f"{statements};" if there else "")


def _call(link: Link, text: str, pipeline: str) -> str:
    filled = sql.SQL(text)  # pyright: ignore[reportArgumentType]
    return filled.format(sql.Identifier(link.schema), sql.Literal(pipeline)).as_string(link.connection)


def _over_budget(link: Link, row: Row) -> Finding:
    """Raise what is spent, and only that: by what the rows that wait need, and at least to twice as much."""
    name, spent = row["pipeline"], row["spent_budgets"]
    needed = link.rows(_NEEDED, name)[0]
    raised: dict[str, int | float] = {}
    for kind in spent:
        limit = row["options"][kind]
        more = max(2 * limit, limit + 1.5 * float(needed[kind] or 0))
        raised[kind] = math.ceil(more) if kind == "daily_tokens" else round(more, 2)
    says = f"pipeline {name} has spent its {' and '.join(spent)} of today, and goes on at midnight UTC"
    call = f"SELECT {{}}.embed_alter({{}}, '{json.dumps(raised).replace('{', '{{').replace('}', '}}')}');"
    return Finding("budget", "warning", says, _call(link, call, name))


def states(link: Link) -> Iterator[Finding]:
    """Pipelines whose work does not go on, or has left rows behind."""
    for row in link.rows(_STATES):
        name = row["pipeline"]
        if row["state"] == "broken":
            yield Finding("pipeline", "error", f"pipeline {name} is broken: {row['last_error']}")
        elif row["state"] == "paused":
            yield Finding(
                "pipeline", "warning", f"pipeline {name} is paused", _call(link, "SELECT {}.embed_resume({});", name)
            )
        elif row["state"] == "over budget":
            yield _over_budget(link, row)
        elif row["last_error"] and row["last_error"].startswith(_DISK_FULL):
            yield _disk_full(link, name, row["last_error"])
        elif row["last_error"] and not row["failed"]:
            yield Finding("pipeline", "error", f"rows of pipeline {name} wait after an error: {row['last_error']}")
        if row["failed"]:
            says = f"{row['failed']} rows of pipeline {name} were given up, the last one because: {row['last_error']}"
            yield Finding("dead letters", "warning", says, _call(link, "SELECT {}.embed_retry({});", name))
