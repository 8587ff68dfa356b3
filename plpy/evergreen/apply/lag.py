"""How long changes took to be searchable: histograms that are only inserted, and merge by addition."""

from evergreen import db
from evergreen.model.order import BACKFILL, LIVE
from evergreen.queries import load
from evergreen.schedule.claim import Claim

SQL = load(__file__)

_FOLDED_AT_ONCE = 10_000


def record(claim: Claim, keys: list[str]) -> None:
    """Record how old the changes are that these keys of a claim were queued for; a row a batch and lane.

    Every committed change counts, live or bulk. History (backfills, rebuilds, rechecks) changed nothing, and nobody
    searches a generation that is not the active one.
    """
    if claim.generation.state != "active":
        return
    jobs = [claim.jobs[key] for key in keys]
    for lane in (LIVE, BACKFILL):
        since = [job.unserved_since for job in jobs if job.lane == lane and job.unserved_since is not None]
        if since:
            db.run(SQL.record, claim.pipeline.id, lane, since)


def fold() -> None:
    """Add up minutes that are over, a minute a row, and drop what is older than an hour."""
    db.run(SQL.drop_old)
    db.run(SQL.fold_minutes, _FOLDED_AT_ONCE)
