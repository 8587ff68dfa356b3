"""Option max_lag: what workers log when a pipeline becomes late, and when it is on time again; once for all of them."""

from evergreen import db
from evergreen.db import event_log
from evergreen.db.queries import load

SQL = load(__package__, "lateness")


def is_promised() -> bool:
    """Return whether there is anything to look at."""
    return bool(db.value(SQL.is_promised))


def log_turned() -> None:
    """Log each pipeline that has become late, or is on time again, since a worker last looked."""
    for row in db.rows(SQL.turned):
        pipeline, since = int(row["pipeline"]), row["since"]
        db.run(SQL.note, pipeline, since)
        if since is None:
            event_log.info("pipeline_on_time", pipeline=pipeline, late_for=round(row["late_for"], 1))
        else:
            reason = db.value(SQL.reason, pipeline, row["options"], row["model"], row["model_revision"])
            event_log.warn("pipeline_late", pipeline=pipeline, since=since, max_lag=row["max_lag"], reason=reason)
