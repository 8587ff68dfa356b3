"""Cursors over the source (backfill) and over the stored documents (orphans): the next keys, claimed from the start."""

import time
from collections import defaultdict
from dataclasses import dataclass, replace

from evergreen import db
from evergreen.core.job import Claim
from evergreen.core.retry import bisect
from evergreen.db import timeouts
from evergreen.db.errors import is_shutdown_or_cancel
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.queue import change_log
from evergreen.queue.claims import add
from evergreen.source import reader

SQL = load(__package__)
_SCOPES = ("source", "document")
_LOCK_TIMEOUT = "2ms"
_CURSOR_LOCK_TIMEOUT = "100ms"  # another worker has a cursor for the moment of a claim
_LONG_WAIT_S = 0.09
_HELD_RETRY_S = 5.0  # seconds until a cursor that an open drain has is waited for again
_AROUND_LOCKS_S = 1.0  # seconds for the way around what others hold


@dataclass
class _Place:
    start: str | None
    position: str | None
    round: int
    unread: bool = False
    ended: bool = False
    walked: int = 0


@dataclass(frozen=True)
class Savepoint:
    """Where private cursors were."""

    places: dict[tuple[int, str], _Place]
    seen: dict[int, int]  # by generation, how many keys


class InTransactionCursors:
    """For a drain: it walks on from where the cursor stands, and moves it only at its end.

    Keys that another session has claimed and not committed are stepped over, so drains side by side do different keys.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, str], _Place] = {}
        self._seen: defaultdict[int, dict[str, None]] = defaultdict(dict)  # keys, in the order in which they came

    def savepoint(self) -> Savepoint:
        """Return where the cursors are, to go back to when the rows that they come to from here on are not claimed."""
        places = {identity: replace(place) for identity, place in self._places.items()}
        return Savepoint(places, {generation: len(keys) for generation, keys in self._seen.items()})

    def go_back(self, savepoint: Savepoint) -> None:
        """Forget what was walked over since: its claims are undone, and a cursor that moved on would lose its rows."""
        self._places = savepoint.places
        for generation, keys in self._seen.items():
            while len(keys) > savepoint.seen.get(generation, 0):
                keys.popitem()

    def begin(self, generation: int) -> None:
        """Look where the cursors stand, before any row is read."""
        for scope in _SCOPES:
            self._place(generation, scope)

    def note(self, claim: Claim) -> None:
        """Remember keys that are claimed here, to be read after ``begin``: the cursors need not come to them too."""
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
                place.walked += len(keys)
                before = len(claim.jobs)
                if scope == "source" and place.round == 0:
                    # The first backfill: what has a document was captured ever since, so another drain did it. Without
                    # this, drains beside one that is left open would do the same keys again and again.
                    keys = [row["key"] for row in db.rows(SQL.not_embedded, claim.generation.id, keys)]
                keys = [key for key in keys if key not in self._seen[claim.generation.id]]
                _queue_around_locks(claim, keys, time.monotonic() + _AROUND_LOCKS_S)
                limit -= len(claim.jobs) - before

    def _place(self, generation: int, scope: str) -> _Place | None:
        identity = (generation, scope)
        if identity not in self._places:
            cursor = db.one(SQL.look, *identity)
            if cursor is None:
                return None
            self._places[identity] = _Place(cursor["position"], cursor["position"], cursor["round"])
        return self._places[identity]

    def forget(self, claim: Claim, scope: str) -> None:
        """Start anew from wherever the cursor stands next time."""
        self._places.pop((claim.generation.id, scope), None)

    def settle(self) -> None:
        """Move each cursor over what was done, unless somebody else moved or restarted it."""
        for (generation, scope), place in self._places.items():
            if not place.unread:
                moved = (place.position, not place.ended, place.walked, place.start, place.round)
                db.run(SQL.move_from, generation, scope, *moved)


class CommittedCursors:
    """For workers that commit at once: whoever has the cursor's row moves it.

    While an open drain has the row, a worker walks on beside it, as another drain would.
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
        """Take the next keys; False when somebody else has the cursor."""
        place = (claim.generation.id, scope)
        cursor = db.one(SQL.lock_cursor, *place)
        if cursor is None:
            if db.one(SQL.look, *place) is None:
                return True
            cursor = self._wait(place)
        if cursor is None:
            return db.one(SQL.look, *place) is None
        self._independent.forget(claim, scope)
        keys = _page(claim, scope, cursor["position"], limit)
        if keys is not None:
            position = keys[-1] if keys else cursor["position"]
            db.run(SQL.move, claim.generation.id, scope, position, len(keys) == limit, len(keys))
            if not queue(claim, keys):
                change_log.log_keys(claim.pipeline.id, keys)  # an open drain has queued one: they come by the log
        return True

    def _wait(self, place: tuple[int, str]) -> db.Row | None:
        """Wait for another worker to move on: walking beside it would be claiming the very keys that it claims.

        Measured with four workers on a backfill, a model of 200 ms: 2,000 rows/s beside, 2,900 behind.
        """
        if time.monotonic() < self._held_until:
            return None
        started = time.monotonic()
        cursor = with_lock_timeout(lambda: db.one(SQL.wait, *place), _CURSOR_LOCK_TIMEOUT)
        if cursor is None and time.monotonic() - started > _LONG_WAIT_S:
            self._held_until = time.monotonic() + _HELD_RETRY_S
        return cursor


def create(generation: int, *, backfill: bool) -> None:
    """Make the cursors of a new generation; with ``backfill`` the one over the source starts at once."""
    db.run(SQL.insert_scans, generation, backfill)


def stored_keys(generation: int, after: str | None, limit: int) -> list[str]:
    """Return the next keys that have a document, in their order."""
    return [row["key"] for row in db.rows(SQL.stored_keys, generation, after, limit)]


def queue(claim: Claim, keys: list[str]) -> bool:
    """Queue keys as jobs of the claim; False when another session, not committed, has one of them.

    Keys with a job already are logged: whoever has it may have read the row before what the cursor is there for.
    """
    keys = [key for key in keys if key not in claim.jobs]
    if not keys:
        return True
    added = with_lock_timeout(lambda: db.rows(SQL.queue_claimed, claim.generation.id, keys, claim.token), _LOCK_TIMEOUT)
    if added is None:
        return False
    add(claim, added)
    if existing := [key for key in keys if key not in claim.jobs]:
        change_log.log_keys(claim.pipeline.id, existing)
    return True


def _queue_around_locks(claim: Claim, keys: list[str], until: float) -> None:
    """Queue keys; a key that another session has locked goes to the change log instead."""
    bisect(keys, lambda part: queue(claim, part), lambda locked: change_log.log_keys(claim.pipeline.id, locked), until)


def _page(claim: Claim, scope: str, after: str | None, limit: int) -> list[str] | None:
    """Return the next keys; None, and the reason beside the cursor, when the source cannot be read."""
    if scope == "document":
        return stored_keys(claim.generation.id, after, limit)
    try:
        return timeouts.run_with_timeout(
            lambda: reader.with_source_locked(claim.pipeline, lambda: reader.scan(claim.pipeline, after, limit))
        )
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        db.run(SQL.fail, claim.generation.id, scope, reader.unreadable_reason(claim.pipeline, error))
        return None


def was_restarted(claim: Claim) -> bool:
    """Tell whether all rows may have gone since the claim: what is written now, the cursor may have passed already."""
    return db.value(SQL.hold_round, claim.generation.id) != claim.round
