"""Cursors over the source (backfill) and the stored documents (orphans); their keys are claimed as they are queued."""

import time
from collections import defaultdict
from dataclasses import dataclass, replace

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.core.job import Claim, Job, Lane
from evergreen.core.pipeline import Generation
from evergreen.core.retry import bisect
from evergreen.db import timeouts
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.db.locks import inserts_all, with_lock_timeout
from evergreen.db.queries import load
from evergreen.queue import change_log
from evergreen.source import reader

SQL = load(__package__, "backfill")
_SCOPES = ("source", "document")
_LOCK_TIMEOUT = "2ms"
_CURSOR_LOCK_TIMEOUT = "100ms"  # another worker holds a cursor during a claim
_LONG_WAIT_S = 0.09
_HELD_RETRY_S = 5.0  # seconds before waiting again for a cursor that an open drain holds
_AROUND_LOCKS_S = 1.0  # seconds to work around keys that other sessions hold
_SAMPLE = 5000  # rows that a generation embeds first, of more than
_MANY_ROWS = 10_000


@dataclass
class _Place:
    start: str | None
    position: str | None
    round: int
    unread: bool = False
    ended: bool = False
    visited: int = 0


@frozen
class Savepoint:
    """Positions of in-transaction cursors."""

    places: dict[tuple[int, str], _Place]
    seen: dict[int, int]  # by generation, how many keys


class InTransactionCursors:
    """For a drain: it reads on from the cursor's position, and moves the cursor only at its end.

    Keys claimed but not committed by another session are skipped, so concurrent drains process different keys.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, str], _Place] = {}
        self._seen: defaultdict[int, dict[str, None]] = defaultdict(dict)  # keys in order of arrival

    def savepoint(self) -> Savepoint:
        """Return the cursors' positions, to go back to if the claims that follow are undone."""
        places = {identity: replace(place) for identity, place in self._places.items()}
        return Savepoint(places, {generation: len(keys) for generation, keys in self._seen.items()})

    def go_back(self, savepoint: Savepoint) -> None:
        """Go back to a savepoint: the claims since are undone, and their rows would be lost otherwise."""
        self._places = savepoint.places
        for generation, keys in self._seen.items():
            while len(keys) > savepoint.seen.get(generation, 0):
                keys.popitem()

    def begin(self, generation: int) -> None:
        """Read the cursors' positions before any row is read."""
        for scope in _SCOPES:
            self._place(generation, scope)

    def note(self, claim: Claim) -> None:
        """Remember keys claimed here after ``begin``: the cursors can skip them."""
        self._seen[claim.generation.id].update(dict.fromkeys(claim.jobs))

    def claim_next(self, claim: Claim, limit: int) -> None:
        """Add up to ``limit`` keys to the claim."""
        for scope in _SCOPES:
            place = self._place(claim.generation.id, scope)
            while place is not None and limit > 0 and not place.ended:
                keys = _page(claim, scope, place.position, limit)
                if keys is None:
                    place.unread = True
                    break
                place.ended = len(keys) < limit
                place.position = keys[-1] if keys else place.position
                place.visited += len(keys)
                before = len(claim.jobs)
                if scope == "source" and place.round == 0:
                    # In the first backfill, rows with a document are captured since, so another drain did them. Without
                    # this, drains concurrent with one left open would process the same keys repeatedly.
                    keys = [row["key"] for row in db.rows(SQL.keys_without_document, claim.generation.id, keys)]
                keys = [key for key in keys if key not in self._seen[claim.generation.id]]
                _queue_around_locks(claim, keys, time.monotonic() + _AROUND_LOCKS_S)
                limit -= len(claim.jobs) - before

    def _place(self, generation: int, scope: str) -> _Place | None:
        identity = (generation, scope)
        if identity not in self._places:
            cursor = db.one(SQL.running_cursor, *identity)
            if cursor is None:
                return None
            self._places[identity] = _Place(cursor["position"], cursor["position"], cursor["round"])
        return self._places[identity]

    def forget(self, claim: Claim, scope: str) -> None:
        """Start again from the cursor's position next time."""
        self._places.pop((claim.generation.id, scope), None)

    def settle(self) -> None:
        """Move each cursor past what was done, unless another session moved or restarted it."""
        for (generation, scope), place in self._places.items():
            if not place.unread:
                moved = (place.position, not place.ended, place.visited, place.start, place.round)
                db.run(SQL.move_cursor_from, generation, scope, *moved)


class CommittedCursors:
    """For workers that commit at once: the session that locks the cursor's row moves it.

    While an open drain holds the row, a worker reads on independently, like another drain.
    """

    def __init__(self) -> None:
        self._independent = InTransactionCursors()
        self._held_until = 0.0

    def claim_next(self, claim: Claim, limit: int) -> None:
        """Add up to ``limit`` keys to the claim."""
        moved = [scope for scope in _SCOPES if self._move(claim, scope, limit)]
        if len(moved) < len(_SCOPES) and len(claim.jobs) < limit:
            self._independent.claim_next(claim, limit - len(claim.jobs))

    def _move(self, claim: Claim, scope: str, limit: int) -> bool:
        """Claim the next keys; return False if another session holds the cursor."""
        place = (claim.generation.id, scope)
        cursor = db.one(SQL.lock_cursor, *place)
        if cursor is None:
            if db.one(SQL.running_cursor, *place) is None:
                return True
            cursor = self._wait(place)
        if cursor is None:
            return db.one(SQL.running_cursor, *place) is None
        self._independent.forget(claim, scope)
        keys = _page(claim, scope, cursor["position"], limit)
        if keys is not None:
            position = keys[-1] if keys else cursor["position"]
            db.run(SQL.move_cursor, claim.generation.id, scope, position, len(keys) == limit, len(keys))
            if not queue(claim, keys):
                change_log.log_keys(claim.pipeline.id, keys)  # an open drain has queued one: the log brings them
        return True

    def _wait(self, place: tuple[int, str]) -> db.Row | None:
        """Wait for another worker to move the cursor: reading on independently would claim the same keys.

        Measured with four workers on a backfill and a model of 200 ms: 2,000 rows/s independently, 2,900 waiting.
        """
        if time.monotonic() < self._held_until:
            return None
        started = time.monotonic()
        cursor = with_lock_timeout(lambda: db.one(SQL.wait_for_cursor, *place), _CURSOR_LOCK_TIMEOUT)
        if cursor is None and time.monotonic() - started > _LONG_WAIT_S:
            self._held_until = time.monotonic() + _HELD_RETRY_S
        return cursor


def create(generation: int, *, backfill: bool) -> None:
    """Create the cursors of a new generation; with ``backfill`` the source cursor starts at once."""
    db.run(SQL.insert_cursors, generation, backfill)


def queue_sample(active: Generation, building: int) -> None:
    """Queue a random sample of rows, if there are many, which are embedded before the cursor starts.

    So generations can be compared, and ``embed_bridge`` finds pairs of all parts of the table, long before the cursor
    ends. The cursor passes these rows, too: they are fresh by then.
    """
    db.run(SQL.insert_sampled_jobs.with_identifiers(table=active.table), active.id, building, _SAMPLE, _MANY_ROWS)


def restart(pipeline_id: int) -> None:
    """Restart all cursors of a pipeline, to check everything; fresh rows cost no call."""
    db.run(SQL.restart_cursors, pipeline_id)


def stored_keys(generation: int, after: str | None, limit: int) -> list[str]:
    """Return the next keys that have a document, in order."""
    return [row["key"] for row in db.rows(SQL.stored_keys, generation, after, limit)]


def queue(claim: Claim, keys: list[str]) -> bool:
    """Queue keys as jobs of the claim; return False if another session holds one uncommitted.

    Keys that already have a job are logged: its claim may have read the row before the change that started the cursor.
    """
    keys = [key for key in keys if key not in claim.jobs]
    if not keys:
        return True
    arguments = claim.generation.id, keys, claim.token, claim.at
    added: list[str] | None = keys
    if not inserts_all(lambda: db.run(SQL.insert_claimed_jobs, *arguments), len(keys), _LOCK_TIMEOUT):
        added = with_lock_timeout(lambda: db.value(SQL.insert_missing_jobs, *arguments), _LOCK_TIMEOUT)
    if added is None:
        return False
    claim.jobs.update({key: Job(key, Lane.BACKFILL, 1, 0, claim.at, None) for key in added})
    if existing := [key for key in keys if key not in claim.jobs]:
        change_log.log_keys(claim.pipeline.id, existing)
    return True


def _queue_around_locks(claim: Claim, keys: list[str], until: float) -> None:
    """Queue keys; a key that another session has locked goes to the change log instead."""
    bisect(keys, lambda part: queue(claim, part), lambda locked: change_log.log_keys(claim.pipeline.id, locked), until)


def _page(claim: Claim, scope: str, after: str | None, limit: int) -> list[str] | None:
    """Return the next keys; None, with the reason stored at the cursor, if the source cannot be read."""
    if scope == "document":
        return [row["key"] for row in db.rows(SQL.checked_keys, claim.generation.id, after, limit)]
    try:
        return timeouts.run_with_timeout(
            lambda: reader.with_source_locked(claim.pipeline, lambda: reader.scan(claim.pipeline, after, limit))
        )
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        db.run(SQL.set_cursor_error, claim.generation.id, scope, reader.unreadable_reason(claim.pipeline, error))
        return None


def lock_round(claim: Claim) -> bool:
    """Keep the cursor over the stored documents from restarting before this transaction ends.

    Return False if it restarted since the claim, or another session restarts it now: it may have passed the rows
    written here.
    """
    return db.value(SQL.lock_round, claim.generation.id) == claim.round
