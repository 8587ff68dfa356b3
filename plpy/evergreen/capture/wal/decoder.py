"""Decode messages of pgoutput, protocol version 1; malformed bytes raise ProtocolError."""

import struct
from collections.abc import Callable

from evergreen.core.frozen import frozen

UNCHANGED = object()  #: a TOASTed value that did not change and was not logged
#: A logged row: values as text, in the order of the relation's columns.
Values = tuple[object, ...]


class ProtocolError(ValueError):
    """Bytes that are not a message of pgoutput."""


@frozen
class Begin:
    """The start of a committed transaction: LSN and time (microseconds since 2000) of the commit, 32-bit id."""

    commit_lsn: int
    committed_at: int
    xid: int


@frozen
class Commit:
    """The end of a transaction; ``end_lsn``: the position after it."""

    commit_lsn: int
    end_lsn: int


@frozen
class Relation:
    """A table as it was when the following rows were written."""

    oid: int
    columns: tuple[str, ...]
    types: tuple[int, ...]


@frozen
class Change:
    """A changed row: ``old`` is None where the replica identity was not logged, ``new`` where the row was deleted.

    ``whole``: ``old`` is the whole row, not only its replica identity.
    """

    relation: int
    old: Values | None
    new: Values | None
    whole: bool = False


@frozen
class Truncate:
    """Truncated tables."""

    relations: tuple[int, ...]


@frozen
class Other:
    """A message without rows: an origin or a type."""

    kind: str


Message = Begin | Commit | Relation | Change | Truncate | Other


class _Bytes:
    """Reads the fields of a message in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise ProtocolError(f"a message of pgoutput ends after {len(self._data)} bytes, within a field")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, form: str) -> int:
        """Read an integer in network order, by its format in ``struct``."""
        return int(struct.unpack(f"!{form}", self.take(struct.calcsize(f"!{form}")))[0])

    def letter(self) -> str:
        return self.take(1).decode("latin-1")

    def string(self) -> str:
        """Read a text that ends with a zero byte."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise ProtocolError("a name in a message of pgoutput is not terminated")
        found = _text(self._data[self._at : end])
        self._at = end + 1
        return found

    def values(self) -> Values:
        return tuple(self._value() for _ in range(self.number("H")))

    def _value(self) -> object:
        kind = self.letter()
        if kind == "n":
            return None
        if kind == "u":
            return UNCHANGED
        if kind != "t":
            raise ProtocolError(f"pgoutput has no value of kind {kind!r}")
        return _text(self.take(self.number("i")))

    def end(self) -> None:
        if self._at != len(self._data):
            raise ProtocolError(f"a message of pgoutput has {len(self._data) - self._at} bytes too many")


def _text(data: bytes) -> str:
    """Decode a text; in SQL_ASCII it may be any bytes, which must not stop the read."""
    return data.decode("utf-8", "surrogateescape")


def parse(data: bytes) -> Message:
    """Decode one message; raises ProtocolError."""
    given = _Bytes(data)
    kind = given.letter()
    if kind not in _KINDS:
        raise ProtocolError(f"pgoutput has no message of kind {kind!r}")
    message = _KINDS[kind](given)
    given.end()
    return message


def _begin(given: _Bytes) -> Begin:
    return Begin(given.number("Q"), given.number("q"), given.number("I"))


def _commit(given: _Bytes) -> Commit:
    given.take(1)
    commit_lsn, end_lsn = given.number("Q"), given.number("Q")
    given.number("q")
    return Commit(commit_lsn, end_lsn)


def _origin(given: _Bytes) -> Other:
    given.number("Q")
    given.string()
    return Other("origin")


def _type(given: _Bytes) -> Other:
    given.number("I")
    given.string()
    given.string()
    return Other("type")


def _relation(given: _Bytes) -> Relation:
    oid = given.number("I")
    given.string()  # schema and table may have been renamed since
    given.string()
    given.take(1)
    columns = [_column(given) for _ in range(given.number("H"))]
    return Relation(oid, tuple(name for name, _ in columns), tuple(type_oid for _, type_oid in columns))


def _column(given: _Bytes) -> tuple[str, int]:
    given.take(1)
    name, type_oid = given.string(), given.number("I")
    given.take(4)
    return name, type_oid


def _insert(given: _Bytes) -> Change:
    oid = given.number("I")
    _expect(given.letter(), "N")
    return Change(oid, None, given.values())


def _update(given: _Bytes) -> Change:
    oid, old, kind = given.number("I"), None, given.letter()
    whole = kind == "O"
    if kind in {"K", "O"}:
        old, kind = given.values(), given.letter()
    _expect(kind, "N")
    return Change(oid, old, given.values(), whole=whole)


def _delete(given: _Bytes) -> Change:
    oid, kind = given.number("I"), given.letter()
    _expect(kind, "KO")
    return Change(oid, given.values(), None, whole=kind == "O")


def _truncate(given: _Bytes) -> Truncate:
    count = given.number("I")
    given.take(1)
    return Truncate(struct.unpack(f"!{count}I", given.take(4 * count)) if count < 2**26 else _too_many(count))


def _too_many(count: int) -> tuple[int, ...]:
    raise ProtocolError(f"a message of pgoutput claims {count} tables")


def _expect(kind: str, allowed: str) -> None:
    if kind not in allowed:
        raise ProtocolError(f"a row in a message of pgoutput is marked {kind!r}")


_KINDS: dict[str, Callable[[_Bytes], Message]] = {
    "B": _begin,
    "C": _commit,
    "O": _origin,
    "Y": _type,
    "R": _relation,
    "I": _insert,
    "U": _update,
    "D": _delete,
    "T": _truncate,
}
