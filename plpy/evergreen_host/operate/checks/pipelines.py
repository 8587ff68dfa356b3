"""Each pipeline: broken, paused, over budget, dead letters, no index."""

from collections.abc import Iterator

from psycopg import sql

from evergreen_host.operate.finding import Finding
from evergreen_host.operate.link import Link

_STATES = "SELECT s.pipeline, s.state, s.failed, s.last_error FROM {schema}.embed_status s ORDER BY s.pipeline"
_WITHOUT_INDEX = """
SELECT g.pipeline, g.chunks, embed.index_statement(g.generation) AS statement FROM {schema}.embed_generations g
WHERE g.state <> 'previous' AND NOT g.backfilling AND NOT g.indexed
  AND g.chunks >= {schema}.embed_setting('index_from')::bigint
"""


def _call(link: Link, text: str, pipeline: str) -> str:
    filled = sql.SQL(text)  # pyright: ignore[reportArgumentType]
    return filled.format(sql.Identifier(link.schema), sql.Literal(pipeline)).as_string(link.connection)


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
            says = f"pipeline {name} has spent what it may spend a day, and goes on at midnight UTC"
            raised = 'SELECT {}.embed_alter({}, \'{{"daily_tokens": null, "daily_cost": null}}\');'
            yield Finding("budget", "warning", says, _call(link, raised, name))
        elif row["last_error"] and not row["failed"]:
            yield Finding("pipeline", "error", f"rows of pipeline {name} wait after an error: {row['last_error']}")
        if row["failed"]:
            says = f"{row['failed']} rows of pipeline {name} were given up, the last one because: {row['last_error']}"
            yield Finding("dead letters", "warning", says, _call(link, "SELECT {}.embed_retry({});", name))


def indexes(link: Link) -> Iterator[Finding]:
    """Generations that have enough chunks and no HNSW index."""
    for row in link.rows(_WITHOUT_INDEX):
        says = (
            f"the {row['chunks']} vectors of pipeline {row['pipeline']} have no index: every search reads all of them"
        )
        yield Finding("index", "warning", says, f"{row['statement']};")
