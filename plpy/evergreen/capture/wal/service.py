"""A worker's turn at the WAL: sees to the slot, reads what was committed, and lets the server remove what is logged."""

import time
from collections.abc import Callable
from functools import partial

from evergreen import db
from evergreen.capture.wal import handover, reader, slot
from evergreen.capture.wal.decoder import ProtocolError
from evergreen.capture.wal.reader import Read
from evergreen.capture.wal.slot import SlotStatus, number
from evergreen.catalog import maintenance
from evergreen.catalog.maintenance import Step, Task
from evergreen.db import event_log
from evergreen.db.errors import in_class, is_blocked, is_lock_unavailable, is_object_in_use, is_shutdown_or_cancel
from evergreen.db.queries import load

SQL = load(__package__)
_MESSAGES = 10_000  # at a time
_LOOK_AGAIN = 1.0  # seconds until somebody wants the WAL read, or until what did not work is tried again
_BEHIND_ANOTHER = 0.05
_AFTER_ERROR = 5.0
_SHORTEST = 0.02
_SHARE = 3  # so many times as long as a reading took, it rests when there was nothing: each starts a while back
_ADVANCE_EVERY, _ADVANCE_BYTES = 1.0, 16 << 20
_PATIENCE, _MOST_PATIENCE = 250, 16_000  # milliseconds to wait for the slot, doubled each time
_PASSING = ("08", "53")  # classes of errors that have nothing to do with what is read: connections, room


class Reader:
    """Reads for all pipelines of the database, whichever its worker works on; one session at a time does."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._next = 0.0
        self._patience = _PATIENCE
        self._slot_at = 0.0  # when to try to make it again
        self._advanced_at = 0.0
        self._seen = ""  # the end of the WAL when nothing was left to read
        self._complained: str | None = None

    def turn(self, *, at_once: bool = False) -> bool:
        """Do what there is to do; True when there was anything. ``at_once``: even if it is not time yet."""
        if not at_once and time.monotonic() < self._next:
            return False
        try:
            return self._turn()
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            if is_blocked(error):
                self._rest(_BEHIND_ANOTHER)
                return False
            if not in_class(error, *_PASSING):
                return self._give_up(db.message(error), f"error {db.sqlstate(error)} in decoding")
            self._step(slot.release)
            self._rest(_AFTER_ERROR)
            self._complain(db.message(error))
            return False

    def rest(self) -> None:
        """Leave the WAL alone for a while, after an error that this did not deal with."""
        self._rest(_AFTER_ERROR)

    def _give_up(self, reason: str, told: str) -> bool:
        """The same WAL will fail again, whoever reads it: another slot begins beyond it."""
        self._slot_at = time.monotonic() + _AFTER_ERROR
        try:
            return self._lose(reason, told)
        except db.DatabaseError as error:
            if not is_blocked(error):
                raise
            self._rest(_BEHIND_ANOTHER)  # another session tries it just now, and will come upon the same
            return False

    def _turn(self) -> bool:
        survey = self._step(_survey)
        if not survey["has_slot"] and not any(survey[one] for one in ("new", "wanted", "moving", "unable", "reading")):
            self._rest(_LOOK_AGAIN)
            return False
        look = self._step(slot.look)
        if look.made:
            self._rest(_LOOK_AGAIN)
            return False
        is_needed = any(survey[one] for one in ("new", "wanted", "moving", "reading"))
        if look.lost is not None and is_needed:
            return self._lose(look.lost)
        if not is_needed:
            if look.there or look.published or survey["has_slot"]:
                self._step(handover.drop_unused)
            if look.there:
                self._step(lambda: event_log.info("slot_dropped", reason="no pipeline needs it"))
            done = self._mend(survey)
            self._rest(_LOOK_AGAIN)
            return done
        done = self._join(survey, look)
        if look.there or self._make_slot():
            done = self._read(survey, look) or done
        return done

    def _join(self, survey: db.Row, look: SlotStatus) -> bool:
        if survey["new"] or not look.published:
            self._step(lambda: handover.prepare(published=look.published))
        done = bool(survey["new"])
        if survey["wanted"]:
            done = self._each("wanted", handover.join) or done
        return self._mend(survey) or done

    def _mend(self, survey: db.Row) -> bool:
        done = self._each("unable", handover.retry_unsupported) if survey["unable"] else False
        self._isolated([(one, partial(handover.sync_partitions, one)) for one in self._step(handover.strangers)])
        return done

    def _each(self, state: str, body: Callable[[int], bool]) -> bool:
        """Bring each pipeline of a state a step further; True when one came further."""
        return self._isolated([(one, partial(body, one)) for one in self._step(lambda: handover.of_state(state))])

    def _isolated(self, steps: list[tuple[int, Callable[[], bool]]]) -> bool:
        """Do a step of each pipeline; one whose tables are locked or broken keeps no other from being read."""
        moved: list[bool] = []
        tasks = [Task("capture from the WAL", lambda body=body: moved.append(body()), one) for one, body in steps]
        maintenance.run(self._step, tasks)
        return any(moved)

    def _make_slot(self) -> bool:
        """Make the slot, unless other transactions go on for too long."""
        if time.monotonic() < self._slot_at:
            return False
        try:
            self._step(lambda: slot.create(f"{self._patience}ms"))
        except db.DatabaseError as error:
            if is_shutdown_or_cancel(error):
                raise
            why = db.message(error)
            if is_lock_unavailable(error):
                why = "transactions that were there before go on"
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
            self._slot_at = time.monotonic() + _LOOK_AGAIN
            self._step(lambda: db.rows(SQL.drop_unfinished_slot))
            self._step(lambda: db.run(SQL.set_note, f"there is no replication slot yet: {why}"))
            return False
        self._patience = _PATIENCE
        self._step(lambda: event_log.info("slot_created"))
        return True

    def _read(self, survey: db.Row, look: SlotStatus) -> bool:
        started = time.monotonic()
        moving = bool(survey["wanted"] or survey["moving"] or survey["new"])
        found = Read()
        awaited = bool(survey["awaited"])
        if moving or awaited or look.written != self._seen:
            self._let_go(look, started, more=False)
            found = self._step(lambda: _read(note=moving, awaited=awaited))
        if found.cut:
            self._step(reader.flush_wal)
            return True
        self._seen = found.written or self._seen if found.logged == 0 else ""
        if found.garbled is not None:
            return self._lose(found.garbled)
        if found.more:
            self._let_go(self._step(slot.look), started, more=True)
        moved = False
        if moving and found.position is not None:
            position = found.position
            moved = self._step(lambda: handover.move_on(position))
            begun = [(one, partial(handover.begin, one)) for one in self._step(lambda: handover.settled(position))]
            moved = self._isolated(begun) or moved  # each in a transaction that ends with its DDL
        took = time.monotonic() - started
        if found.more or moved:
            self._next = 0.0
        else:
            self._rest(max(_SHORTEST, _SHARE * took))
        return found.logged > 0 or found.more or moved

    def _let_go(self, look: SlotStatus, now: float, *, more: bool) -> None:
        """Move the slot on over what is logged and committed; it costs about what reading it does."""
        if look.read is None or look.confirmed is None or number(look.read) <= number(look.confirmed):
            return
        far = number(look.read) - number(look.confirmed) > _ADVANCE_BYTES
        if more or far or now > self._advanced_at + _ADVANCE_EVERY:
            read = look.read
            self._step(lambda: _advance(read))
            self._advanced_at = now

    def _lose(self, reason: str, told: str | None = None) -> bool:
        """Give the slot up; ``told`` is what may stand in the log of that, where that is not the reason."""
        self._complain(reason)
        self._step(lambda: handover.drop_slot(reason))
        self._step(lambda: event_log.warn("slot_dropped", reason=told or reason))
        self._seen = ""
        return True

    def _rest(self, seconds: float) -> None:
        self._next = time.monotonic() + seconds

    def _complain(self, what: str) -> None:
        if what != self._complained:
            db.warning(f"evergreen: reading the WAL: {what}")
        self._complained = what


def _survey() -> db.Row:
    found = db.one(SQL.survey)
    assert found is not None
    return found


def _read(*, note: bool, awaited: bool, patient: bool = False) -> Read:
    """As ``wal.read``; what cannot be understood is said, not raised, so that what came before it stays logged."""
    try:
        return reader.read(_MESSAGES, note=note, awaited=awaited, patient=patient)
    except ProtocolError as error:
        return Read(garbled=str(error))


def _advance(read: str) -> None:
    with reader.quietly():
        db.value(SQL.advance, read)


def read_in_drain() -> None:
    """For a drain, which does not commit: log what others have committed, and move the slot over what they logged."""
    survey = _survey()
    if not survey["reading"] and not survey["moving"]:
        return
    look = slot.look()
    if look.lost is not None or not look.there:
        return
    try:
        if look.read is not None and look.confirmed is not None and number(look.read) > number(look.confirmed):
            read = look.read
            db.atomically(lambda: _advance(read))
        db.atomically(lambda: _read(note=False, awaited=bool(survey["awaited"]), patient=True))
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        if is_object_in_use(error):  # a worker is at it
            return
        # Other pipelines have nothing to do with it. A worker that comes upon it gives the slot up.
        db.warning(f"evergreen: reading the WAL: {db.message(error)}", hint="CALL embed_work() sees to it.")
        db.atomically(slot.release)
