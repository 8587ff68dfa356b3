"""Claims: jobs are claimed, locked by the claim's token when they are written, and finished or released.

A claim takes ready jobs, live before backfill with a share each, then the next keys of the cursors.
"""

from dataclasses import replace
from functools import cache
from typing import Protocol

from evergreen import db
from evergreen.catalog import options
from evergreen.core.job import Claim, ClaimRequest, Job, Lane
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.remote_batch import Awaited
from evergreen.db.errors import is_lock_unavailable
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import Query, load
from evergreen.queue.scan_start import ScanStart, ScanStarts, SnapshotMark

SQL = load(__package__)
_LOCK_TIMEOUT = "2ms"
_WOKEN = 5000  # jobs in one statement


class NextKeys(Protocol):
    """Where more keys come from when no job is ready: the cursors."""

    def claim_next(self, claim: Claim, limit: int) -> None:
        """Add up to ``limit`` keys to the claim."""
        ...


def claim(
    wanted: ClaimRequest,
    own_tokens: list[int],
    cursors: NextKeys,
    *,
    leased: bool,
    scan_starts: ScanStarts | None = None,
) -> Claim | None:
    """Claim keys; None if there are none. The cursors' keys belong to the backfill lane.

    ``leased``: for a worker that commits: the claim is a row of embed.lease and an advisory lock of this session. A
    drain needs neither, because its row locks last as long as it does. ``scan_starts``: of a worker.
    """
    claim = start(wanted.pipeline, wanted.generation, wanted.lane, leased=leased)
    abandoned = abandoned_tokens(claim, own_tokens)
    scan_start = (
        scan_starts.of("job", claim.generation.id, wanted.lane)
        if scan_starts is not None and not abandoned
        else ScanStart()
    )
    fill(claim, wanted.lane, wanted.limit, abandoned, cursors, scan_start)
    if not claim.jobs:
        return None
    if leased:
        claim = replace(claim, lease=float(db.value(SQL.insert_lease, claim.token, claim.generation.id)))
        db.run(SQL.lock_token, claim.lock)
    return claim


def lanes(pipeline: Pipeline, room: int) -> list[tuple[Lane, int]]:
    """Return the lanes in claim order with their limits: live up to its share, backfill, then the rest of live."""
    share = max(1, int(room * options.effective(pipeline.options, "live_share")))
    return [(Lane.LIVE, share), (Lane.BACKFILL, room), (Lane.LIVE, room)]


def may_have_work(pipeline_id: int) -> bool:
    """Return whether a pipeline may have work; polling leaves no dead rows."""
    return is_anything_left([pipeline_id], [], unreadable=True) or bool(
        db.value(SQL.has_leases_or_broken_source, pipeline_id)
    )


def start(pipeline: Pipeline, generation: Generation, lane: Lane, *, leased: bool) -> Claim:
    """Return an empty claim."""
    new = db.one(SQL.next_token, generation.id)
    assert new is not None
    return Claim(new["token"], pipeline, generation, lane, new["round"], leased, new["at"])


def abandoned_tokens(claim: Claim, own_tokens: list[int]) -> list[int]:
    """Return the abandoned claims of a generation, whose jobs can be taken over."""
    found: list[int] = db.value(SQL.abandoned_tokens, claim.generation.id, own_tokens)
    return found


def with_abandoned(pipelines: list[int], own_tokens: list[int]) -> set[int]:
    """Return those of the pipelines that some session had a claim of when it ended."""
    return {row["pipeline"] for row in db.rows(SQL.pipelines_with_abandoned_claims, pipelines, own_tokens)}


def tokens_with_worker(generation: Generation) -> list[int]:
    """Return the claims of a generation whose worker is alive."""
    found: list[int] = db.value(SQL.tokens_with_worker, generation.id)
    return found


def fill(claim: Claim, lane: Lane, limit: int, abandoned: list[int], cursors: NextKeys, scan_start: ScanStart) -> None:
    """Add up to ``limit`` keys of a lane to a claim; for the backfill lane also the cursors' next keys."""
    limit_in_all = limit + len(claim.jobs)
    add(claim, _ready(claim, (lane, limit), abandoned, scan_start))
    if lane == Lane.BACKFILL and limit_in_all > len(claim.jobs):
        cursors.claim_next(claim, limit_in_all - len(claim.jobs))


def _ready(claim: Claim, wanted: tuple[Lane, int], abandoned: list[int], scan_start: ScanStart) -> list[db.Row]:
    """Claim ready jobs; released jobs before the scan start wait for the next full scan."""
    seen = scan_start.known()
    start = str(seen.end if seen is not None else 0)
    arguments = (claim.generation.id, *wanted, claim.token, abandoned, start)
    found = scan_start.timed(lambda: db.rows(SQL.claim, *arguments), len, from_start=seen is None)
    if found:
        scan_start.seen = SnapshotMark(max(int(row["xid"]) for row in found))
    return found


def renew(claim: Claim, hashes: list[bytes]) -> None:
    """Renew the lease of a claim."""
    renew_lease(claim.token, claim.generation, [*claim.jobs], hashes)


def renew_lease(token: int, generation: Generation, keys: list[str], hashes: list[bytes]) -> None:
    """Renew a lease with its jobs and its texts in flight."""
    db.run(SQL.renew_lease, token)
    db.run(SQL.renew_jobs, generation.id, token, keys)
    db.run(SQL.renew_texts, generation.model.id, token, hashes)


def unlock(claim: Claim) -> None:
    """Release the session's lock on a finished claim."""
    db.value(SQL.unlock_token, claim.lock)


def is_anything_left(pipelines: list[int], unavailable: list[int], *, unreadable: bool) -> bool:
    """Return whether jobs are ready, or will be in a moment, in generations whose model is not ``unavailable``.

    ``unreadable``: also count rows of sources that could not be read.
    """
    return bool(db.value(_of_working(SQL.is_anything_left), pipelines, unavailable, unreadable))


def has_new_changes(pipelines: list[int], snapshot: str) -> bool:
    """Return whether changes were committed that a snapshot does not see."""
    return bool(db.value(_of_working(SQL.has_new_changes), pipelines, snapshot))


@cache
def _of_working(query: Query) -> Query:
    return query.with_identifiers(working_pipelines=SQL.working_pipelines.text)


def delete_lease(claim: Claim) -> None:
    """Delete the lease of a claim without jobs."""
    db.run(SQL.delete_lease, claim.token)


def release_jobs(
    claim: Claim, keys: list[str], seconds: float = 0.0, why: str | None = None, scope: str = "row"
) -> bool:
    """Release keys, to be claimed again after some seconds; return False if another session has one locked.

    After False, keep the lease: the claim is then taken over like that of a crashed worker. Without a lease its keys
    could not be claimed until it expires.

    ``why``: an error, with its scope, which replaces that of an earlier try.
    """
    if not keys:
        return True
    return db.run(SQL.release_jobs, claim.generation.id, claim.token, keys, seconds, why, scope) == len(keys)


def release_to_batch(claim: Claim, keys: list[str], awaited: Awaited) -> bool:
    """Release keys, which wait for a batch until its deadline; False as in ``release_jobs``."""
    given = claim.generation.id, claim.token, keys, awaited.batch, awaited.deadline
    return not keys or db.run(SQL.release_to_batch, *given) == len(keys)


def count_in_batches(pipelines: list[int]) -> int:
    """Return how many rows of pipelines wait for a batch."""
    return int(db.value(SQL.count_in_batches, pipelines))


def wake_batch(batch: int) -> None:
    """Let jobs that wait for a batch be claimed; those that another session has locked wait for ``wake_ended``."""
    while db.run(SQL.wake_batch, batch, _WOKEN) == _WOKEN:
        pass


def wake_ended() -> None:
    """Wake the jobs of batches that are over."""
    for row in db.rows(SQL.batches_awaited):
        wake_batch(row["batch"])


def limit_batch(claim: Claim, keys: list[str], most: int) -> None:
    """Record how many rows the next batch with one of these may hold; skips what another session has locked."""
    db.run(SQL.limit_batch, claim.generation.id, claim.token, keys, most)


def set_last_error(claim: Claim, why: str, scope: str) -> None:
    """Record the error that a claim's rows wait for while claimed."""
    db.run(SQL.set_last_error, claim.generation.id, claim.token, [*claim.jobs], why, scope)


def has_only_own_jobs(own_tokens: list[int]) -> bool:
    """Return whether a large job table has only the jobs of these claims."""
    return bool(db.value(SQL.has_only_own_jobs, own_tokens))


def truncate_queue() -> None:
    """Truncate a large job table that is empty; skipped while another session uses it."""

    def empty() -> None:
        db.run(SQL.lock_job_table)
        if db.value(SQL.is_empty_and_bloated):  # checked again under the lock, in a newer snapshot
            db.run(SQL.truncate_queue)

    if not db.value(SQL.is_empty_and_bloated):
        return
    try:
        db.atomically(empty)
    except db.DatabaseError as error:
        if not is_lock_unavailable(error):
            raise


def release_all(generations: list[int]) -> None:
    """Discard all claims of generations: those of another server mean nothing here."""
    db.run(SQL.release_claims, generations)


def delete_work(generations: list[int]) -> None:
    """Delete everything that is queued, claimed or failed in generations, and their cursors."""
    db.run(SQL.delete_work, generations)


def delete_abandoned() -> None:
    """Delete what crashed workers left and nothing needs any more."""
    db.run(SQL.delete_abandoned_leases)
    db.run(SQL.delete_abandoned_in_flight)
    db.run(SQL.delete_abandoned_claimed_texts)


def delete_work_of_dropped() -> None:
    """Delete queue rows of dropped generations: a drop sees only what was committed before it."""
    db.run(SQL.delete_jobs_of_dropped)
    db.run(SQL.delete_changes_of_dropped)
    db.run(SQL.delete_failures_of_dropped)
    db.run(SQL.delete_cursors_of_dropped)


def add(claim: Claim, rows: list[db.Row]) -> None:
    """Add claimed rows to the claim."""
    for row in rows:
        claim.jobs[row["key"]] = Job(
            row["key"],
            Lane(row["lane"]),
            row["changes"],
            row["attempts"],
            row["changed_at"],
            row["unserved_since"],
            row.get("max_batch"),
            row.get("batch"),
        )


def lock_jobs(claim: Claim, keys: list[str]) -> set[str]:
    """Lock the jobs of these keys to the end of the transaction; return those that still belong to the claim."""
    if not keys:
        return set()
    return {row["key"] for row in db.rows(SQL.lock_jobs, claim.generation.id, claim.token, keys)}


def lock_and_add(claim: Claim, keys: list[str]) -> None:
    """Lock those jobs of these keys that still belong to the claim's token, and add them to the claim."""
    add(claim, db.rows(SQL.lock_claimed_jobs, claim.generation.id, claim.token, keys))


def finish_unchanged(claim: Claim, keys: list[str]) -> set[str]:
    """Finish jobs that still belong to the claim and did not change; return their keys.

    Checks the fencing token: write their rows in the same transaction. Nothing is done while another session has one
    of the jobs locked: lock the others with ``lock_jobs``.
    """
    if not keys:
        return set()
    query = Query("finish_unchanged_jobs", SQL.finish_jobs.types, SQL.finish_jobs.text)
    return with_lock_timeout(lambda: _finish(claim, keys, query), _LOCK_TIMEOUT) or set()


def _finish(claim: Claim, keys: list[str], query: Query) -> set[str]:
    changes = [claim.jobs[key].changes for key in keys]
    return set(db.value(query, claim.generation.id, claim.token, keys, changes))


def finish_jobs(claim: Claim, keys: list[str], *, again: bool) -> None:
    """Finish jobs after their rows were written; those that changed, or all with ``again``, are queued again."""
    if again and keys:
        db.run(SQL.requeue_jobs, claim.generation.id, claim.token, keys, claim.at)
    elif keys:
        finish_or_requeue(claim, keys, claim.at)


def clear_failures(claim: Claim, keys: list[str]) -> None:
    """Delete the dead letters of rows that are up to date."""
    if keys:
        db.run(SQL.clear_failures, claim.generation.id, keys)


def finish_or_requeue(claim: Claim, keys: list[str], written_at: str | None) -> None:
    """Finish jobs that did not change since the claim, and queue the others again.

    ``written_at``: the time of the data that was written, which leaves only newer changes pending; None: nothing was.
    """
    finished = _finish(claim, keys, SQL.finish_jobs)
    changed = [key for key in keys if key not in finished]
    if changed:
        db.run(SQL.requeue_jobs, claim.generation.id, claim.token, changed, written_at)
