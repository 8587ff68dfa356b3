"""What an error of the database's means for a worker's step: how long to rest, and what is said of it."""

from evergreen import db

MOMENT = 0.2  # seconds: a lock was not to be had
_LONGEST_LOCKED = 5.0  # each try costs a lock_timeout, which the other pipelines' rows wait for
_FIRST = 5.0
_LONGEST = 60.0
_LOCKS = {"55P03", "40P01"}
_DISK_FULL = "53100"


def pause(error: db.DatabaseError, before: int) -> float:
    """Seconds to wait: a moment where a lock was not to be had, longer where something is wrong.

    ``before``: how often in a row the disk was full, or a lock not to be had, just before. What was paid for may be
    lost each time, as there is no room to keep it.
    """
    state = db.sqlstate(error)
    if state in _LOCKS:
        return min(_LONGEST_LOCKED, MOMENT * 2.0 ** min(before, 9))
    return min(_LONGEST, _FIRST * 2.0 ** min(before, 9)) if state == _DISK_FULL else _FIRST


def is_disk_full(error: db.DatabaseError) -> bool:
    """Tell whether there is no room to write."""
    return db.sqlstate(error) == _DISK_FULL


def is_locked(error: db.DatabaseError) -> bool:
    """Tell whether a lock was not to be had."""
    return db.sqlstate(error) in _LOCKS


def words(error: db.DatabaseError) -> str | None:
    """Return what embed_status is to say of rows that wait for it; None where it is over in a moment."""
    if is_locked(error):
        return None
    told = db.message(error)
    if is_disk_full(error):
        return f"the disk is full, and work goes on by itself when there is room on it: {told}"
    return told
