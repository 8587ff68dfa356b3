"""Pipelines that break what option max_lag promises: since when, and why."""

from collections.abc import Iterable
from datetime import UTC

from evergreen_host.database import Database, Row
from evergreen_host.report import pluralize

# Workers in this database; of sessions of other roles, pg_stat_activity may not show what they run.
_WORKERS = """
SELECT count(*) FILTER (WHERE a.query ~* 'embed_(work|drain|sleep)' AND a.state <> 'idle'
                           OR a.application_name = 'evergreen worker') AS seen,
       count(*) FILTER (WHERE a.query = '<insufficient privilege>') AS hidden
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
"""
NO_WORKER = "no worker is running"


def any_worker(database: Database) -> bool:
    """Return whether a worker or drain is running in this database, as far as this role can see."""
    return bool(database.rows(_WORKERS)[0]["seen"])


def count_workers(database: Database) -> int | None:
    """Return how many sessions work on this database; None if this role may not see all of them."""
    found = database.rows(_WORKERS)[0]
    return None if found["hidden"] else int(found["seen"])


def reason(row: Row, *, has_worker: bool) -> str:
    """Return why a late pipeline is late, from its row of embed_status."""
    if row["state"] in {"broken", "model changed"}:
        return str(row["last_error"] or row["state"])
    if not has_worker:
        return NO_WORKER
    if row["spent_budgets"]:
        return f"today's {' and '.join(row['spent_budgets'])} is spent"
    return str(row["last_error"] or f"a backlog of {pluralize(row['pending'] + row['in_flight'], 'row')}")


def reasons(database: Database, rows: Iterable[Row]) -> dict[str, str]:
    """Return for each late pipeline since when and why it is late."""
    late = [row for row in rows if row.get("late_since") is not None]
    if not late:
        return {}
    workers = database.rows(_WORKERS)[0]
    has_worker = bool(workers["seen"] or workers["hidden"])
    return {
        row["pipeline"]: f"late since {row['late_since'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC:"
        f" {reason(row, has_worker=has_worker)}"
        for row in late
    }
