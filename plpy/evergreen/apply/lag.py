"""How long live changes took to be searchable: histograms that are only inserted, and merge by addition."""

from evergreen import db
from evergreen.model.order import LIVE
from evergreen.queries import load
from evergreen.schedule.claim import Claim

SQL = load(__file__)

_FOLDED_AT_ONCE = 10_000


def record(claim: Claim, keys: list[str]) -> None:
    """Write down how old the changes are that these keys of a claim were queued for; a row a batch.

    History says nothing of the lag, and nobody searches a generation that is not the active one.
    """
    changed = [claim.jobs[key].changed_at for key in keys if claim.jobs[key].lane == LIVE]
    if changed and claim.generation.state == "active":
        db.run(SQL.record, claim.pipeline.id, changed)


def fold() -> None:
    """Add up minutes that are over, a minute a row, and drop what is older than an hour."""
    db.run(SQL.drop_old)
    db.run(SQL.fold_minutes, _FOLDED_AT_ONCE)
