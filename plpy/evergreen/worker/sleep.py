"""embed_sleep: a worker sleeps between calls of embed_work until a commit wakes it; also the state it keeps."""

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
SHORTEST, LONGEST = 0.02, 1.0  # seconds between two checks while idle
_ANNOUNCE_S = 4.0  # seconds for which one announcement of a sleeping worker is valid


@dataclass
class WorkerState:
    """State that a session's worker keeps between calls."""

    maintenance_at: float = 0.0
    truncate_at: float = 0.0
    watch_at: float = 0.0  # when to see whether a look at a model is due
    batches_at: float = 0.0  # when to see whether a step of a batch is due
    watches: bool = False  # some model is watched
    late_at: float = 0.0  # when to look whether a pipeline is late
    promises: bool = False  # some pipeline has option max_lag
    names: dict[int, str] = field(default_factory=dict[int, str])  # what servers call their models
    scan_starts: ScanStarts = field(default_factory=ScanStarts)
    backed_off_until: dict[int, float] = field(default_factory=dict[int, float])  # by pipeline, after an error
    seen: str | None = None  # the snapshot in which the last pass began
    idle: bool = False  # the last call found nothing to do
    pause: float = SHORTEST
    sleeps_until: float = 0.0

    def note(self, *, idle: bool) -> None:
        """Record how a call of embed_work ended."""
        self.idle = idle
        if not idle:
            self.pause, self.sleeps_until = SHORTEST, 0.0

    def next_pause(self) -> float:
        """Return how long to wait before the next check, and double that wait."""
        pause, self.pause = self.pause, min(2 * self.pause, LONGEST)
        return pause


_state = WorkerState()


def state() -> WorkerState:
    """Return this session's state."""
    return _state


def begin_pass(into: WorkerState) -> bool:
    """Record the snapshot of the next pass; return whether this session was asked to stop."""
    row = db.one(SQL.pass_snapshot)
    assert row is not None
    into.seen = str(row["seen"])
    return not row["undisturbed"] and bool(as_extension_owner(lambda: db.value(SQL.is_stop_requested)))


def notify_peers() -> None:
    """Wake the other idle workers: there is work for all of them."""
    db.rows(SQL.notify_peers)
    db.commit()


@sql_entry
def embed_sleep(pipeline: str | None) -> tuple[bool, float]:
    """Return whether this session holds the sleep lock, and how long to sleep at most; raises 25001, 42704."""
    privileges.check_isolation("embed_sleep")
    asleep, seconds = as_extension_owner(lambda: _fall_asleep(pipelines.chosen(pipeline)))
    _state.sleeps_until = time.monotonic() + seconds if asleep else 0.0
    return asleep, seconds


def _fall_asleep(chosen: list[int]) -> tuple[bool, float]:
    woken_for_nothing = _state.idle and time.monotonic() < _state.sleeps_until
    if woken_for_nothing or not _take_sleep_lock():  # a flood of NOTIFYs must not keep workers busy
        return False, _state.next_pause()
    if _state.seen is None or claims.has_new_changes(chosen, _state.seen):
        db.run(SQL.release_sleep_lock)
        return False, 0.0
    return True, _state.next_pause() if _has_to_wait(chosen) else LONGEST


def _has_to_wait(chosen: list[int]) -> bool:
    """Return whether jobs are left that are not ready yet; assumed while checking is expensive."""
    scan_start = _state.scan_starts.of("left")
    if scan_start.known() is not None:
        return True
    scan_start.seen = SnapshotMark(0)  # no mark, only the time of the next check matters
    return scan_start.timed(lambda: claims.is_anything_left(chosen, [], unreadable=False), int, from_start=True)


def _take_sleep_lock() -> bool:
    """Announce a sleeping worker, then take the sleep lock; return False if it is not available."""
    if db.value(SQL.holds_sleep_lock):
        db.run(SQL.release_sleep_lock)
    if not db.value(SQL.is_sleep_announced, _ANNOUNCE_S / 2):
        if not db.value(SQL.is_sleep_lock_free):  # announcing it for another holder would make writers send NOTIFY
            return False
        db.rows(SQL.announce_sleep, _ANNOUNCE_S)
    return bool(db.value(SQL.try_sleep_lock))
