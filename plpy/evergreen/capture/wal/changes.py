"""The keys in a message of pgoutput, as text."""

from evergreen.capture.wal.decoder import UNCHANGED, Change, Relation, Values
from evergreen.core.frozen import frozen

Key = tuple[str, ...]


class UnknownKeyError(Exception):
    """A logged row cannot be identified: the key's columns had other names or types then."""


@frozen
class Watcher:
    """A pipeline's view of one of its tables: key columns in order, and the names of watched columns."""

    pipeline: int
    key: tuple[str, ...]
    types: tuple[int, ...]  # of the key's columns; text of another type may not be valid for them
    watched: frozenset[str]


def keys(watcher: Watcher, relation: Relation, change: Change) -> set[Key]:
    """Return the keys to check after a change: none, one, or two where the key changed; raises UnknownKeyError."""
    places = _places(watcher, relation)
    found: set[Key] = set()
    if change.new is not None:
        found.add(_key(places, change.new, change.old))
    if change.old is not None:
        if _is_unrelated(watcher, relation, change):
            return set()
        found.add(_key(places, change.old, None))
    return found


def _places(watcher: Watcher, relation: Relation) -> list[int]:
    found = dict(zip(relation.columns, range(len(relation.columns)), strict=True))
    places = [found[name] for name in watcher.key if name in found]
    if len(places) < len(watcher.key) or tuple(relation.types[place] for place in places) != watcher.types:
        raise UnknownKeyError(f"the key of pipeline {watcher.pipeline}")
    return places


def _key(places: list[int], row: Values, before: Values | None) -> Key:
    """Return the key of a row; values that were not logged again come from the old row."""
    values: list[str] = []
    for place in places:
        value = row[place] if place < len(row) else None
        if value is UNCHANGED and before is not None and place < len(before):
            value = before[place]
        if not isinstance(value, str):
            raise UnknownKeyError("a value of the key was not logged")
        values.append(value)
    return tuple(values)


def _is_unrelated(watcher: Watcher, relation: Relation, change: Change) -> bool:
    """Return whether an update changed no key or watched column; return False if the whole old row is not logged."""
    if not change.whole or change.old is None or change.new is None:
        return False
    looked_at = watcher.watched | set(watcher.key)
    if not looked_at <= set(relation.columns) or not len(change.old) == len(change.new) == len(relation.columns):
        return False
    pairs = zip(relation.columns, change.old, change.new, strict=True)
    return all(new is UNCHANGED or old == new for name, old, new in pairs if name in looked_at)
