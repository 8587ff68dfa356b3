"""Read the WAL into the change log: what was committed, and is seen by everybody, up to a position that is noted."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from evergreen import db
from evergreen.capture.wal import changes, decoder
from evergreen.capture.wal.changes import Key, Snapshot, UnknownKeyError, Watcher
from evergreen.capture.wal.decoder import Begin, Change, Commit, ProtocolError, Relation, Truncate
from evergreen.capture.wal.slot import number, printed
from evergreen.catalog import json_objects, pipelines
from evergreen.db import encoding
from evergreen.db.queries import Query, load
from evergreen.queue import change_log
from evergreen.source import expressions as ex
from evergreen.source import table

SQL = load(__package__)
_AT_A_TIME = 500  # messages in memory
# Keys until they are written. PL/Python writes in subtransactions, and whoever decodes what we wrote, as we do next,
# has 4096 changes of each in memory: for a million rows 227 MB where 5000 were written at a time.
_KEPT = 40_000
_BULK = 1000  # changes of one transaction, from which on it can wait: as in queue.change_log
_WORTH_NOTING = 1 << 20  # bytes without a change of ours after which the position is noted all the same


@dataclass(frozen=True)
class Read:
    """What one reading came to."""

    logged: int = 0  # keys and scopes
    more: bool = False  # there is more where that came from
    position: str | None = None
    written: str | None = None  # the end of the WAL when it began, if it came that far
    garbled: str | None = None  # why it cannot go on
    cut: bool = False  # nothing was read, as the WAL may end in the middle of a record: see bring_to_disk()


def read(limit: int, *, note: bool = False, awaited: bool = False, patient: bool = False) -> Read:
    """Log what was committed since the last reading, about ``limit`` messages of it, in this transaction.

    ``note``: also write down that there was nothing. ``awaited``: even that nothing is new, as our commit brings to
    disk what is waited for. ``patient``: where the WAL may end in the middle of a record, wait for the rest, which may
    be a quarter of a minute where nobody else writes. Raises DatabaseError 55006 while another session reads, and
    GarbledError.
    """
    start = db.one(SQL.start)
    if start is None or start["read"] is None:
        return Read()
    if start["is_cut"] and not patient:
        return Read(cut=True)
    begun, written = number(start["read"]), number(start["written"])
    reading = _Reading(begun)
    count = 0
    for data in _peek(start["name"], start["written"], limit):
        count += 1
        if not reading.take(decoder.parse(data)):
            break
    reading.log.flush()
    came_to_the_end = not reading.stopped and count < limit
    is_past_all = came_to_the_end and not start["is_cut"]
    position = max(reading.position, written) if is_past_all else reading.position
    news = position > begun and (reading.log.total or note or position - begun > _WORTH_NOTING)
    if news or awaited:
        db.run(SQL.add_position, start["name"], printed(position))
        db.run(SQL.drop_positions, start["name"])
    return Read(
        reading.log.total,
        not came_to_the_end and not reading.stopped,
        printed(position),
        start["written"] if came_to_the_end else None,
    )


def flush_wal() -> None:
    """Make the WAL on disk end with a record: once this transaction is committed, all is there that came before."""
    db.run(SQL.bring_to_disk)


def _peek(slot: str, end: str, limit: int) -> Iterator[bytes]:
    """Yield messages; with the first of them the server has put all in a file, so that a huge transaction fits."""
    rows = db.stream(SQL.peek, slot, end, limit, size=_AT_A_TIME)
    with quietly():
        first = next(rows, None)
    if first is not None:
        for row in chain((first,), rows):
            yield row["data"]


@contextmanager
def quietly() -> Generator[None]:
    """While this lasts WAL is decoded: what pgoutput writes is for a client, in its encoding, and the log is spared."""
    before = db.one(SQL.settings)
    assert before is not None
    db.run(SQL.set, "UTF8", "fatal")
    yield
    db.run(SQL.set, before["encoding"], before["level"])  # after an error, which undoes it, there is no need


class _Reading:
    """Takes one message after the other."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.stopped = False
        self.log = _Log()
        self._snapshot: Snapshot | None = None
        self._relations: dict[int, Relation] = {}
        self._watchers: dict[int, tuple[Watcher, ...]] = {}
        self._known = False  # the transaction was logged by an earlier reading
        self._begun = Begin(0, 0, 0)
        self._changes = 0

    def take(self, message: decoder.Message) -> bool:
        """Log what a message tells of; False to stop before it."""
        if isinstance(message, Begin):
            return self._begin(message)
        if isinstance(message, Commit):
            self.position = max(self.position, message.end_lsn)
            self.log.end_of_transaction()
        elif isinstance(message, Relation):
            self._relations[message.oid] = message
        elif not self._known and isinstance(message, Change):
            self._changed(message)
        elif not self._known and isinstance(message, Truncate):
            for relation in message.relations:
                for watcher in self._watching(relation):
                    self.log.scope(watcher.pipeline, "document")
        return True

    def _begin(self, message: Begin) -> bool:
        self._begun = message
        self._known = message.commit_lsn < self.position
        self._changes = 0
        if self._known or self._is_seen(message.xid):
            return True
        self.stopped = True
        return False

    def _is_seen(self, xid: int) -> bool:
        """Whoever reads a row from now on sees what that transaction wrote."""
        if self._snapshot is None or not self._snapshot.sees(xid):
            self._snapshot = Snapshot.parse(db.value(SQL.snapshot))
        return self._snapshot.sees(xid)

    def _changed(self, change: Change) -> None:
        relation = self._relations.get(change.relation)
        if relation is None:
            raise ProtocolError(f"pgoutput told of a row of table {change.relation} and not what that looks like")
        for watcher in self._watching(change.relation):
            try:
                for key in changes.keys(watcher, relation, change):
                    self.log.key(watcher.pipeline, key, self._begun.committed_at)
            except UnknownKeyError:
                self.log.scope(watcher.pipeline, "source")

    def _watching(self, relation: int) -> tuple[Watcher, ...]:
        if relation not in self._watchers:
            found = (self.log.watcher(row["pipeline"], relation) for row in db.rows(SQL.watchers, relation))
            self._watchers[relation] = tuple(watcher for watcher in found if watcher is not None)
        return self._watchers[relation]


@dataclass
class _Log:
    """Keys on their way to embed.change_log: a hot row is one of them."""

    total: int = 0
    _keys: dict[int, dict[Key, list[object]]] = field(default_factory=dict[int, dict[Key, list[object]]])
    _count: int = 0
    _mine: list[list[object]] = field(default_factory=list[list[object]])  # of the transaction that is being read
    _scopes: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    _queries: dict[int, Query] = field(default_factory=dict[int, Query])

    def watcher(self, pipeline: int, relation: int) -> Watcher | None:
        """What is to be known of a pipeline to log its keys; None where its source is gone."""
        found = pipelines.by_id(pipeline)
        source = table.describe(found.source) if found is not None else None
        if found is None or source is None or not source.key:
            return None
        self._queries[pipeline] = SQL.log_keys.on(key=ex.logged_key("e", 2, source.key))
        watched = (name for generation in found.generations for _, name in generation.watched)
        key = [c.name for c in source.key]
        return Watcher(pipeline, tuple(key), tuple(db.value(SQL.types, relation, key)), frozenset(watched))

    def key(self, pipeline: int, key: Key, changed_at: int) -> None:
        """Log a key; one that is no text cannot be told from others."""
        if not all(encoding.is_text(one) for one in key):
            self.scope(pipeline, "source")
            return
        kept = self._keys.setdefault(pipeline, {})
        if key not in kept:
            kept[key] = [changed_at, False]
            self._count += 1
            self._mine.append(kept[key])
        else:
            kept[key][1] = False  # unless this transaction, too, is one of many: see its end
        if self._count >= _KEPT:
            self.flush()

    def scope(self, pipeline: int, scope: str) -> None:
        """Log that all is to be checked."""
        self._scopes.add((pipeline, scope))

    def end_of_transaction(self) -> None:
        """What comes now is of another one."""
        if len(self._mine) > _BULK:
            for kept in self._mine:
                kept[1] = True
        self._mine.clear()

    def flush(self) -> None:
        """Write what there is."""
        self.end_of_transaction()
        for pipeline, kept in self._keys.items():
            if kept:
                keys = json_objects.dumps([[*about, *key] for key, about in kept.items()])
                db.run(self._queries[pipeline], pipeline, keys)
        self.total += self._count + len(self._scopes)
        for pipeline, scope in sorted(self._scopes):
            change_log.log_scope(pipeline, scope)
        self._keys.clear()
        self._scopes.clear()
        self._count = 0
