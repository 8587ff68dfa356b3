"""CALL embed_work: the worker loop, which commits between steps and holds no transaction during model calls."""

import time

from evergreen import db
from evergreen.catalog import options, pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.db import session_guard
from evergreen.db.errors import is_lock_conflict, is_query_canceled
from evergreen.db.privileges import LOCKED_HINT, as_extension_owner, check_owner, sql_entry
from evergreen.db.queries import load
from evergreen.worker import session, sleep
from evergreen.worker.reentrancy import not_reentrant
from evergreen.worker.sleep import LONGEST, SHORTEST, WorkerState
from evergreen.worker.worker import Worker

SQL = load(__package__)
_POLL_S = 0.1
_SLOT_TIMEOUT_S = 5.0
_RELEASE_TIMEOUT_S = 20.0


@frozen
class StopCondition:
    """When to stop."""

    deadline: float
    until_empty: bool  # or until nothing is left
    until_idle: bool  # or until a pass finds no work


@sql_entry
def embed_work(
    pipeline: str | None, max_runtime: str | None, until_empty: bool | None, slot: int | None, until_idle: bool | None
) -> None:
    """Work until the deadline, or until nothing is left or ready.

    Raises 22023, 25006, 2D000, 42501, 42704, 55000.
    """
    seconds = options.check_runtime(max_runtime)
    check_owner()  # otherwise it would retry until the deadline
    as_extension_owner(lambda: pipelines.chosen(pipeline))  # an unknown name is an error at once
    with session.as_needed() as allowed:
        deadline = time.monotonic() + min(seconds, allowed)
        _in_slot(pipeline, slot, StopCondition(deadline, bool(until_empty), bool(until_idle)))


def _in_slot(pipeline: str | None, slot: int | None, stop: StopCondition) -> None:
    _release_locks()  # locks that an earlier call in this session may have left
    before = as_extension_owner(session_guard.state)
    try:
        if slot is None or _take_slot(slot, min(_SLOT_TIMEOUT_S, stop.deadline - time.monotonic())):
            with not_reentrant("embed_work"):
                state = sleep.state() if stop.until_idle else WorkerState()
                _work(Worker(pipeline, state), state, stop)
    finally:
        _release_locks(before)


def _release_locks(before: list[str] | None = None) -> None:
    """Release every claim and slot of this session, and the sleepers' lock, even if cancels arrive meanwhile.

    Also release every lock that it did not have ``before``: an owner's code may have taken one of ours again.
    """
    cancel: db.DatabaseError | None = None
    deadline = time.monotonic() + _RELEASE_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            db.rows(SQL.release_all_locks)
            if before is not None:
                as_extension_owner(lambda: session_guard.restore(before))
            break
        except db.DatabaseError as error:
            if not is_query_canceled(error):
                raise
            cancel = error
    if cancel is not None:
        raise cancel


def _take_slot(slot: int, timeout: float) -> bool:
    """Wait briefly for the slot: the previous run may be about to end.

    A lock that is not held by a worker does not count: any role can take it.
    """
    deadline = time.monotonic() + timeout
    while not db.value(SQL.take_slot, slot) and as_extension_owner(lambda: db.value(SQL.slot_is_taken, slot)):
        if time.monotonic() > deadline:
            return False
        _pause(_POLL_S)
    return True


def _work(worker: Worker, state: WorkerState, stop: StopCondition) -> None:
    try:
        locked = _loop(worker, state, stop)
        locked = worker.finish() or locked
        if locked is not None:
            raise locked
        if worker.outdated is not None:  # evergreen worker and pg_cron go on in another session
            raise UserError(worker.outdated, "55000", hint="A new session loads the package as it is now.")
    finally:
        worker.close()


def _loop(worker: Worker, state: WorkerState, stop: StopCondition) -> db.DatabaseError | None:
    """Work until it is time to stop; return the error if one of our tables is still locked then.

    A VACUUM FULL or REINDEX ends eventually, and texts in flight must not be paid for twice.
    """
    locked: db.DatabaseError | None = None
    pause = SHORTEST
    while time.monotonic() < stop.deadline:
        try:
            if _run_passes(worker, state, stop):
                return None
            locked = None
        except db.DatabaseError as error:
            if not is_lock_conflict(error):
                raise
            if locked is None:
                db.warning(f"evergreen: waiting until a table is unlocked: {db.message(error)}", hint=LOCKED_HINT)
            locked = error
        _pause(min(pause, max(0.0, stop.deadline - time.monotonic())))
        pause = min(2 * pause, LONGEST) if locked is not None else SHORTEST
    return locked


def _run_passes(worker: Worker, state: WorkerState, stop: StopCondition) -> bool:
    """Make passes until time is up or there is nothing to do; return whether the call ends."""
    state.note(idle=True)
    pause = SHORTEST
    notified = False
    while not worker.is_over(stop.deadline) and not sleep.begin_pass(state):
        if worker.run_pass(stop.deadline):
            pause = SHORTEST
            state.note(idle=False)
            if worker.saw_more and stop.until_idle and not notified:
                notified = True
                sleep.notify_peers()
            continue
        if not worker.has_unwritten and (stop.until_idle or (stop.until_empty and not worker.anything_left())):
            return True
        _pause(min(pause, max(0.0, stop.deadline - time.monotonic())))
        pause = min(2 * pause, LONGEST)
    return True


def _pause(seconds: float) -> None:
    """Sleep in slices with no transaction open, so that cancel works and no snapshot is held."""
    db.check_interrupts()
    db.commit()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_POLL_S, left))  # idle polling; pg_sleep would keep the GIL and a snapshot
        db.check_interrupts()
        db.commit()
