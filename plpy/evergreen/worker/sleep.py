"""embed_sleep: between two calls of embed_work a worker sleeps and is woken by a commit; what it remembers then."""

import time
from dataclasses import dataclass, field

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.db import privileges
from evergreen.db.privileges import as_extension_owner, sql_entry
from evergreen.db.queries import load
from evergreen.queue import claims
from evergreen.queue.scan_start import ScanStarts, SnapshotMark

SQL = load(__package__)
SHORTEST, LONGEST = 0.02, 1.0  # seconds between two looks while there is nothing to do
_ANNOUNCE_S = 4.0  # seconds for which it is said at a time that somebody sleeps


@dataclass
class WorkerState:
    """What a session's worker remembers from call to call."""

    maintenance_at: float = 0.0
    truncate_at: float = 0.0
    scan_starts: ScanStarts = field(default_factory=ScanStarts)
    backed_off_until: dict[int, float] = field(default_factory=dict[int, float])  # pipelines after an error: until when
    seen: str | None = None  # the snapshot in which the last pass began
    idle: bool = False  # the last call found nothing to do
    pause: float = SHORTEST
    sleeps_until: float = 0.0

    def note(self, *, idle: bool) -> None:
        """Take down how a call of embed_work ended."""
        self.idle = idle
        if not idle:
            self.pause, self.sleeps_until = SHORTEST, 0.0

    def next_pause(self) -> float:
        """Return how long to wait before a look that need not be soon; the next will be later."""
        pause, self.pause = self.pause, min(2 * self.pause, LONGEST)
        return pause


_state = WorkerState()


def state() -> WorkerState:
    """Return what this session remembers."""
    return _state


def look(into: WorkerState) -> bool:
    """Note what the next pass will see; True when this session has been asked to come to an end."""
    row = db.one(SQL.look)
    assert row is not None
    into.seen = str(row["seen"])
    return not row["undisturbed"] and bool(as_extension_owner(lambda: db.value(SQL.is_to_stop)))


def notify_peers() -> None:
    """Wake the workers that do not sleep the sleep of which there is one: there is enough for all."""
    db.rows(SQL.pass_on)
    db.commit()


@sql_entry
def embed_sleep(pipeline: str | None) -> tuple[bool, float]:
    """Return whether this session sleeps from here on, and for how many seconds at most; raises 25001, 42704."""
    privileges.check_isolation("embed_sleep")
    asleep, seconds = as_extension_owner(lambda: _fall_asleep(pipelines.chosen(pipeline)))
    _state.sleeps_until = time.monotonic() + seconds if asleep else 0.0
    return asleep, seconds


def _fall_asleep(chosen: list[int]) -> tuple[bool, float]:
    woken_for_nothing = _state.idle and time.monotonic() < _state.sleeps_until
    if woken_for_nothing or not _take_sleep_lock():  # who likes to send NOTIFYs keeps nobody busy
        return False, _state.next_pause()
    if _state.seen is None or db.value(SQL.came, chosen, _state.seen):
        db.run(SQL.give_up)
        return False, 0.0
    return True, _state.next_pause() if _has_to_wait(chosen) else LONGEST


def _has_to_wait(chosen: list[int]) -> bool:
    """Tell whether something is left that is not to be done now; taken for granted where a look is dear."""
    scan_start = _state.scan_starts.of("left")
    if scan_start.known() is not None:
        return True
    scan_start.seen = SnapshotMark(0)
    return scan_start.timed(lambda: claims.is_anything_left(chosen, [], unreadable=False), int, from_start=True)


def _take_sleep_lock() -> bool:
    """Get the sleepers' lock, having said before that somebody sleeps; False when it is not to be had."""
    if db.value(SQL.is_mine):
        db.run(SQL.give_up)
    if not db.value(SQL.is_announced, _ANNOUNCE_S / 2):
        if not db.value(SQL.is_had_by_nobody):  # then whoever sits on it would make writers send NOTIFY
            return False
        db.rows(SQL.announce, _ANNOUNCE_S)
    return bool(db.value(SQL.try_))
