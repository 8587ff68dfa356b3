"""A worker's turn at the WAL: manage the slot, log committed changes, and let the server remove logged WAL."""

import time
from collections.abc import Callable
from functools import partial

from evergreen import db
from evergreen.capture.wal import handover, reader, slot
from evergreen.capture.wal.decoder import ProtocolError
from evergreen.capture.wal.reader import Read
from evergreen.capture.wal.slot import SlotStatus
from evergreen.catalog import maintenance
from evergreen.catalog.maintenance import Task
from evergreen.core.step import Step
from evergreen.db import event_log
from evergreen.db.errors import in_class, is_blocked, is_lock_unavailable, is_object_in_use, is_shutdown_or_cancel
from evergreen.db.queries import load

SQL = load(__package__)
_MAX_MESSAGES = 10_000  # per read
_RETRY_S = 1.0  # until the next look for pipelines with capture => 'cdc', or the next attempt
_BUSY_RETRY_S = 0.05
_ERROR_RETRY_S = 5.0
_MIN_PAUSE_S = 0.02
_PAUSE_FACTOR = 3  # pause after an empty read, in multiples of its duration: decoding starts well before new WAL
_ADVANCE_EVERY_S, _ADVANCE_BYTES = 1.0, 16 << 20
_SLOT_TIMEOUT_MS, _MAX_SLOT_TIMEOUT_MS = 250, 16_000  # wait for running transactions when creating the slot; doubles
_TRANSIENT = ("08", "53")  # SQLSTATE classes that do not depend on the WAL's content: connections, resources


class WalPoller:
    """Read the WAL for all pipelines of the database, one session at a time."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._next_run = 0.0
        self._slot_timeout_ms = _SLOT_TIMEOUT_MS
        self._slot_at = 0.0  # when to try again to create it
        self._advanced_at = 0.0
        self._read_to = ""  # the end of the WAL when nothing was left to read
        self._last_warning: str | None = None

    def poll(self, *, at_once: bool = False) -> bool:
        """Do what is due and return whether anything was done; ``at_once``: ignore the pause since the last poll."""
        if not at_once and time.monotonic() < self._next_run:
            return False
        try:
            return self._poll()
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            if is_blocked(error):
                self._pause(_BUSY_RETRY_S)
                return False
            if not in_class(error, *_TRANSIENT):
                return self._replace_slot(db.message(error), f"error {db.sqlstate(error)} in decoding")
            self._step("release slot", slot.release)
            self._pause(_ERROR_RETRY_S)
            self._warn(db.message(error))
            return False

    def back_off(self) -> None:
        """Pause after an error that ``poll`` did not handle."""
        self._pause(_ERROR_RETRY_S)

    def _replace_slot(self, reason: str, log_message: str) -> bool:
        """Drop a slot whose WAL cannot be decoded: every session would fail on it, and a new slot starts after it."""
        self._slot_at = time.monotonic() + _ERROR_RETRY_S
        try:
            return self._drop_slot(reason, log_message)
        except db.DatabaseError as error:
            if not is_blocked(error):
                raise
            self._pause(_BUSY_RETRY_S)  # another session is decoding it, and will fail the same way
            return False

    def _poll(self) -> bool:
        survey = self._step("survey", _survey)
        states = ("new", "pending", "moving", "unsupported", "streaming")
        if not survey["has_slot"] and not any(survey[state] for state in states):
            self._pause(_RETRY_S)
            return False
        status = self._step("slot status", slot.status)
        if status.being_created:
            self._pause(_RETRY_S)
            return False
        is_needed = any(survey[one] for one in ("new", "pending", "moving", "streaming"))
        if status.loss is not None and is_needed:
            return self._drop_slot(status.loss)
        if not is_needed:
            if status.exists or status.has_publication or survey["has_slot"]:
                self._step("drop unused slot", handover.drop_unused)
            if status.exists:
                self._step("log", lambda: event_log.info("slot_dropped", reason="no pipeline needs it"))
            done = self._repair(survey)
            self._pause(_RETRY_S)
            return done
        done = self._publish(survey, status)
        if status.exists or self._make_slot():
            done = self._read(survey, status) or done
        return done

    def _publish(self, survey: db.Row, status: SlotStatus) -> bool:
        if survey["new"] or not status.has_publication:
            self._step("prepare publication", lambda: handover.prepare(has_publication=status.has_publication))
        done = bool(survey["new"])
        if survey["pending"]:
            done = self._each("pending", handover.publish) or done
        return self._repair(survey) or done

    def _repair(self, survey: db.Row) -> bool:
        done = self._each("unsupported", handover.retry_unsupported) if survey["unsupported"] else False
        self._isolated(
            [
                (one, partial(handover.sync_partitions, one))
                for one in self._step("changed partitions", handover.with_changed_partitions)
            ]
        )
        return done

    def _each(self, state: str, body: Callable[[int], bool]) -> bool:
        """Run a step for each pipeline in a state; return whether one changed."""
        return self._isolated(
            [(one, partial(body, one)) for one in self._step("pipelines in state", lambda: handover.in_state(state))]
        )

    def _isolated(self, steps: list[tuple[int, Callable[[], bool]]]) -> bool:
        """Run steps of single pipelines; one that fails does not stop the others."""
        moved: list[bool] = []
        tasks = [Task("capture from the WAL", lambda body=body: moved.append(body()), one) for one, body in steps]
        maintenance.run(self._step, tasks)
        return any(moved)

    def _make_slot(self) -> bool:
        """Create the slot; return False if older transactions are still running."""
        if time.monotonic() < self._slot_at:
            return False
        try:
            self._step("create slot", lambda: slot.create(f"{self._slot_timeout_ms}ms"))
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            why = db.message(error)
            if is_lock_unavailable(error):
                why = "older transactions are still running"
            self._slot_timeout_ms = min(2 * self._slot_timeout_ms, _MAX_SLOT_TIMEOUT_MS)
            self._slot_at = time.monotonic() + _RETRY_S
            self._step("drop unfinished slot", lambda: db.rows(SQL.drop_unfinished_slot))
            self._step("note", lambda: db.run(SQL.set_note, f"there is no replication slot yet: {why}"))
            return False
        self._slot_timeout_ms = _SLOT_TIMEOUT_MS
        self._step("log", lambda: event_log.info("slot_created"))
        return True

    def _read(self, survey: db.Row, status: SlotStatus) -> bool:
        started = time.monotonic()
        moving = bool(survey["pending"] or survey["moving"] or survey["new"])
        found = Read()
        awaited = bool(survey["awaited"])
        if moving or awaited or status.flushed != self._read_to:
            self._advance_slot(status, started, more=False)
            found = self._step("read WAL", lambda: _read(note_position=moving, awaited=awaited))
        if found.partial_record:
            self._step("flush WAL", reader.flush_wal)
            return True
        self._read_to = found.flushed or self._read_to if found.logged == 0 else ""
        if found.protocol_error is not None:
            return self._drop_slot(found.protocol_error)
        if found.more:
            self._advance_slot(self._step("slot status", slot.status), started, more=True)
        moved = self._advance_pipelines(found.position) if moving and found.position is not None else False
        took = time.monotonic() - started
        if found.more or moved:
            self._next_run = 0.0
        else:
            self._pause(max(_MIN_PAUSE_S, _PAUSE_FACTOR * took))
        return found.logged > 0 or found.more or moved

    def _advance_pipelines(self, position: str) -> bool:
        """Bring pipelines on their way to or from the WAL a step further; return whether one changed its state."""
        moved = self._step("advance states", lambda: handover.advance_states(position))
        caught_up = self._step("caught up", lambda: handover.caught_up(position))
        # Each in a transaction that ends with its DDL.
        return self._isolated([(one, partial(handover.start_streaming, one)) for one in caught_up]) or moved

    def _advance_slot(self, status: SlotStatus, now: float, *, more: bool) -> None:
        """Advance the slot over logged and committed WAL, which costs about as much as reading it."""
        if status.logged is None or status.logged_bytes == 0:
            return
        if more or status.logged_bytes > _ADVANCE_BYTES or now > self._advanced_at + _ADVANCE_EVERY_S:
            logged = status.logged
            self._step("advance slot", lambda: _advance(logged))
            self._advanced_at = now

    def _drop_slot(self, reason: str, log_message: str | None = None) -> bool:
        """Drop the slot for a reason; ``log_message`` replaces the reason in the server's log."""
        self._warn(reason)
        self._step("drop slot", lambda: handover.drop_slot(reason))
        self._step("log", lambda: event_log.warn("slot_dropped", reason=log_message or reason))
        self._read_to = ""
        return True

    def _pause(self, seconds: float) -> None:
        self._next_run = time.monotonic() + seconds

    def _warn(self, what: str) -> None:
        if what != self._last_warning:
            db.warning(f"evergreen: reading the WAL: {what}")
        self._last_warning = what


def _survey() -> db.Row:
    found = db.one(SQL.survey)
    assert found is not None
    return found


def _read(*, note_position: bool, awaited: bool, wait_for_record: bool = False) -> Read:
    """Read as ``reader.read``, but return a protocol error, so that what was read before it stays logged."""
    try:
        return reader.read(_MAX_MESSAGES, note_position=note_position, awaited=awaited, wait_for_record=wait_for_record)
    except ProtocolError as error:
        return Read(protocol_error=str(error))


def _advance(lsn: str) -> None:
    with reader.decoding_settings():
        db.value(SQL.advance_slot, lsn)


def read_in_drain() -> None:
    """Read the WAL in embed_drain, which cannot commit: advance only over what others have logged and committed."""
    survey = _survey()
    if not survey["streaming"] and not survey["moving"]:
        return
    status = slot.status()
    if status.loss is not None or not status.exists:
        return
    try:
        if status.logged is not None and status.logged_bytes > 0:
            logged = status.logged
            db.atomically(lambda: _advance(logged))
        db.atomically(lambda: _read(note_position=False, awaited=bool(survey["awaited"]), wait_for_record=True))
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        if is_object_in_use(error):  # a worker is reading
            return
        # Only capture from the WAL is affected; a worker that meets the error drops the slot.
        db.warning(f"evergreen: reading the WAL: {db.message(error)}", hint="CALL embed_work();")
        db.atomically(slot.release)
