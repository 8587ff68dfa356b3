"""Copy committed changes that every session can see from the WAL to the change log, and store the position."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from evergreen import db
from evergreen.capture.wal import changes, decoder
from evergreen.capture.wal.changes import Key, UnknownKeyError, Watcher
from evergreen.capture.wal.decoder import Begin, Change, Commit, ProtocolError, Relation, Truncate
from evergreen.capture.wal.slot import format_lsn, parse_lsn
from evergreen.catalog import json_objects, pipelines
from evergreen.core.frozen import frozen
from evergreen.core.job import BULK_CHANGES
from evergreen.db import encoding, snapshots
from evergreen.db.queries import load
from evergreen.db.snapshots import Snapshot
from evergreen.queue import change_log
from evergreen.source import expressions as ex
from evergreen.source import table

SQL = load(__package__)
_FETCH_SIZE = 500  # messages
# PL/Python writes in subtransactions, and decoding keeps 4,096 changes of each subtransaction in memory, even for our
# own writes, which the next read decodes: 227 MB for a million rows written 5,000 at a time.
_MAX_BUFFERED_KEYS = 40_000
_NOTE_POSITION_BYTES = 1 << 20  # WAL without changes of ours after which the position is stored


@frozen
class Read:
    """The result of one read."""

    logged: int = 0  # keys and scopes
    more: bool = False  # the limit was reached before the end of the WAL
    position: str | None = None
    flushed: str | None = None  # the end of the WAL at the start, if it was reached
    protocol_error: str | None = None  # why the messages cannot be decoded
    partial_record: bool = False  # nothing was read: the WAL may end within a record, see flush_wal()


def read(limit: int, *, note_position: bool = False, awaited: bool = False, wait_for_record: bool = False) -> Read:
    """Log what was committed since the last read, about ``limit`` messages, in this transaction.

    ``note_position``: store the position even if there was no change. ``awaited``: store it even if it is the old one,
    because our commit flushes the WAL that a session waits for. ``wait_for_record``: if the WAL may end within a
    record, wait for its rest, up to 15 s on an idle server. Raises DatabaseError 55006 while another session reads, and
    ProtocolError.
    """
    start = db.one(SQL.read_range)
    if start is None or start["logged"] is None:
        return Read()
    if start["is_partial"] and not wait_for_record:
        return Read(partial_record=True)
    start_lsn, flushed = parse_lsn(start["logged"]), parse_lsn(start["flushed"])
    reading = _Reading(start_lsn)
    count = 0
    for data in _peek(start["name"], start["flushed"], limit):
        count += 1
        if not reading.take(decoder.parse(data)):
            break
    reading.log.flush()
    reached_end = not reading.stopped and count < limit
    consumed_all = reached_end and not start["is_partial"]
    position = max(reading.position, flushed) if consumed_all else reading.position
    worth_noting = position > start_lsn and (
        reading.log.total or note_position or position - start_lsn > _NOTE_POSITION_BYTES
    )
    if worth_noting or awaited:
        db.run(SQL.add_position, start["name"], format_lsn(position))
        db.run(SQL.delete_old_positions, start["name"])
    return Read(
        reading.log.total,
        not reached_end and not reading.stopped,
        format_lsn(position),
        start["flushed"] if reached_end else None,
    )


def flush_wal() -> None:
    """Flush the WAL up to the end of a record, by the commit of this transaction."""
    db.run(SQL.flush_wal)


def _peek(slot: str, end: str, limit: int) -> Iterator[bytes]:
    """Yield messages in chunks; the server spills the whole result to disk, so a huge transaction fits in memory."""
    rows = db.stream(SQL.peek, slot, end, limit, size=_FETCH_SIZE)
    with decoding_settings():
        first = next(rows, None)
    if first is not None:
        for row in chain((first,), rows):
            yield row["data"]


@contextmanager
def decoding_settings() -> Generator[None]:
    """Decode with client encoding UTF-8, which pgoutput writes, and without two entries a read in the server's log."""
    before = db.one(SQL.decoding_settings)
    assert before is not None
    db.run(SQL.set_decoding_settings, "UTF8", "fatal")
    yield
    db.run(SQL.set_decoding_settings, before["encoding"], before["level"])  # an error rolls the settings back


class _Reading:
    """Consumes messages one by one."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.stopped = False
        self.log = _Log()
        self._snapshot: Snapshot | None = None
        self._relations: dict[int, Relation] = {}
        self._watchers: dict[int, tuple[Watcher, ...]] = {}
        self._already_logged = False  # an earlier read has logged this transaction
        self._begun = Begin(0, 0, 0)
        self._changes = 0

    def take(self, message: decoder.Message) -> bool:
        """Log the changes in a message; return False to stop before it."""
        if isinstance(message, Begin):
            return self._begin(message)
        if isinstance(message, Commit):
            self.position = max(self.position, message.end_lsn)
            self.log.end_of_transaction()
        elif isinstance(message, Relation):
            self._relations[message.oid] = message
        elif not self._already_logged and isinstance(message, Change):
            self._changed(message)
        elif not self._already_logged and isinstance(message, Truncate):
            for relation in message.relations:
                for watcher in self._watchers_of(relation):
                    self.log.scope(watcher.pipeline, "document")
        return True

    def _begin(self, message: Begin) -> bool:
        self._begun = message
        self._already_logged = message.commit_lsn < self.position
        self._changes = 0
        if self._already_logged or self._is_visible(message.xid):
            return True
        self.stopped = True
        return False

    def _is_visible(self, xid: int) -> bool:
        """Return whether every later snapshot sees what the transaction wrote."""
        if self._snapshot is None or not self._snapshot.sees(xid):
            self._snapshot = snapshots.current()
        return self._snapshot.sees(xid)

    def _changed(self, change: Change) -> None:
        relation = self._relations.get(change.relation)
        if relation is None:
            raise ProtocolError(f"pgoutput sent a row of table {change.relation} before its columns")
        for watcher in self._watchers_of(change.relation):
            try:
                for key in changes.keys(watcher, relation, change):
                    self.log.key(watcher.pipeline, key, self._begun.committed_at)
            except UnknownKeyError:
                self.log.scope(watcher.pipeline, "source")

    def _watchers_of(self, relation: int) -> tuple[Watcher, ...]:
        if relation not in self._watchers:
            found = (self.log.watcher(row["pipeline"], relation) for row in db.rows(SQL.pipelines_of_table, relation))
            self._watchers[relation] = tuple(watcher for watcher in found if watcher is not None)
        return self._watchers[relation]


@dataclass
class _Log:
    """Buffers keys for embed.change_log, so that a row that changes often is written once."""

    total: int = 0
    _keys: dict[int, dict[Key, list[object]]] = field(default_factory=dict[int, dict[Key, list[object]]])
    _count: int = 0
    _of_transaction: list[list[object]] = field(
        default_factory=list[list[object]]
    )  # entries of the current transaction
    _scopes: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    _key_expressions: dict[int, str] = field(default_factory=dict[int, str])

    def watcher(self, pipeline_id: int, relation: int) -> Watcher | None:
        """Return what is needed to log keys of a pipeline; None when its source is gone."""
        found = pipelines.by_id(pipeline_id)
        source = table.of_pipeline(found) if found is not None else None
        if found is None or source is None or not source.key:
            return None
        self._key_expressions[pipeline_id] = ex.logged_key("e", 2, source.key)
        watched = (name for generation in found.generations for _, name in generation.watched)
        key = [c.name for c in source.key]
        return Watcher(pipeline_id, tuple(key), tuple(db.value(SQL.column_types, relation, key)), frozenset(watched))

    def key(self, pipeline_id: int, key: Key, changed_at: int) -> None:
        """Log a key; all rows are checked instead where it is not valid text."""
        if not all(encoding.is_text(one) for one in key):
            self.scope(pipeline_id, "source")
            return
        kept = self._keys.setdefault(pipeline_id, {})
        if key not in kept:
            kept[key] = [changed_at, False]
            self._count += 1
            self._of_transaction.append(kept[key])
        else:
            kept[key][1] = False  # end_of_transaction() sets it if this transaction is bulk, too
        if self._count >= _MAX_BUFFERED_KEYS:
            self.flush()

    def scope(self, pipeline_id: int, scope: str) -> None:
        """Log that all rows of a scope need a check."""
        self._scopes.add((pipeline_id, scope))

    def end_of_transaction(self) -> None:
        """Mark the transaction's keys as bulk if it has many."""
        if len(self._of_transaction) > BULK_CHANGES:
            for kept in self._of_transaction:
                kept[1] = True
        self._of_transaction.clear()

    def flush(self) -> None:
        """Write the buffer to the change log."""
        self.end_of_transaction()
        for pipeline, kept in self._keys.items():
            if kept:
                keys = json_objects.dumps([[*about, *key] for key, about in kept.items()])
                change_log.log_from_wal(pipeline, self._key_expressions[pipeline], keys)
        self.total += self._count + len(self._scopes)
        for pipeline, scope in sorted(self._scopes):
            change_log.log_scope(pipeline, scope)
        self._keys.clear()
        self._scopes.clear()
        self._count = 0
