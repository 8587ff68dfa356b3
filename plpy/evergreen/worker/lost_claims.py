"""Claims of embed_claim that expired: a text that ends its process must not take the same rows along each time."""

from evergreen import db
from evergreen.core.errors import PoisonError
from evergreen.core.job import Claim, Lane
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.queries import load
from evergreen.queue import claims
from evergreen.worker.apply import fail

SQL = load(__package__)
_PARTS = 4
_LOST = "its claim expired: the process that embeds it ended or is too slow"


def count(pipeline: Pipeline, generation: Generation) -> None:
    """Count the expired claims of a generation.

    A process may end for reasons of its own, so the first time costs the rows nothing. Rows that are lost together
    again are claimed in quarters. A row that is lost alone, in a claim that was limited to it, loses an attempt.
    """
    for lost in db.rows(SQL.count_lost_claims, generation.id):
        claim = Claim(lost["token"], pipeline, generation, Lane.LIVE, 0, leased=True)
        claims.lock_and_add(claim, lost["keys"])
        keys, most = [*claim.jobs], [job.max_batch for job in claim.jobs.values()]
        if most == [1]:
            fail(claim, dict.fromkeys(keys, PoisonError(_LOST)))
        elif keys:
            size = len(keys) if None in most else max(1, len(keys) // _PARTS)
            claims.limit_batch(claim, keys, size)


def release_surplus(claim: Claim) -> None:
    """Keep of a new claim what may be claimed together: rows without a limit, or rows within the limit of the first."""
    jobs = [*claim.jobs.values()]
    most = jobs[0].max_batch
    if most is None:
        kept = {job.key for job in jobs if job.max_batch is None}
    else:
        kept = {*[job.key for job in jobs if (job.max_batch or 0) >= most][:most]}
    surplus = [key for key in claim.jobs if key not in kept]
    claims.release_jobs(claim, surplus)
    for key in surplus:
        del claim.jobs[key]
