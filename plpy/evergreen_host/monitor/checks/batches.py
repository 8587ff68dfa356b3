"""Batches at a provider's batch API: refused, failed, or past their deadline."""

from collections.abc import Iterator

from evergreen_host.database import Database
from evergreen_host.monitor.checks.finding import Finding

_IS_HERE = "SELECT pg_catalog.to_regclass('{schema}.embed_batches') IS NOT NULL AS here"
_LATEST = """
SELECT DISTINCT ON (b.pipeline) b.id, b.pipeline, b.state, b.last_error,
       b.deadline < pg_catalog.clock_timestamp() AND b.finished_at IS NULL AS is_overdue
FROM {schema}.embed_batches b
WHERE b.pipeline IS NOT NULL
  AND (b.finished_at IS NULL OR b.finished_at > pg_catalog.clock_timestamp() - interval '1 day')
ORDER BY b.pipeline, b.id DESC
"""


def latest(database: Database) -> Iterator[Finding]:
    """The latest batch of each pipeline, if it went wrong within a day."""
    if not database.rows(_IS_HERE)[0]["here"]:
        return
    for row in database.rows(_LATEST):
        name = f"batch {row['id']} of pipeline {row['pipeline']}"
        why = f": {row['last_error']}" if row["last_error"] else ""
        if row["is_overdue"]:
            yield Finding("batch", "warning", f"{name} is past its deadline, and no worker has taken its texts back")
        elif row["state"] == "failed":
            yield Finding("batch", "warning", f"{name} failed{why}; its texts go by requests, at the full price")
        elif row["state"] == "expired":
            yield Finding("batch", "warning", f"{name} expired{why}; what was left goes by requests, at the full price")
        elif row["state"] == "preparing" and why:
            yield Finding("batch", "warning", f"{name} cannot be sent{why}; workers retry automatically")
