"""The difference between stored and wanted chunks: matched by hash as a multiset, never by position."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredChunk:
    """A chunk that is there."""

    id: int
    chunk_no: int
    hash: bytes


@dataclass(frozen=True)
class Diff:
    """What to do: ``keep`` stored ids under a chunk_no, ``drop`` stored ids, ``add`` wanted chunk_nos."""

    keep: tuple[tuple[int, int], ...]
    drop: tuple[int, ...]
    add: tuple[int, ...]


def diff(stored: Iterable[StoredChunk], wanted: Sequence[bytes]) -> Diff:
    """Match each wanted hash to a stored chunk of that hash, one that is in its place already where there is one."""
    stored = list(stored)
    if not stored:
        return Diff((), (), tuple(range(len(wanted))))
    keep: dict[int, int] = {}
    free: defaultdict[bytes, deque[StoredChunk]] = defaultdict(deque)
    in_place: dict[tuple[bytes, int], StoredChunk] = {}
    for chunk in stored:
        if in_place.setdefault((chunk.hash, chunk.chunk_no), chunk) is not chunk:
            free[chunk.hash].append(chunk)
    rest: list[int] = []
    for number, wanted_hash in enumerate(wanted):
        chunk = in_place.pop((wanted_hash, number), None)
        if chunk is None:
            rest.append(number)
        else:
            keep[chunk.id] = number
    for chunk in in_place.values():
        free[chunk.hash].append(chunk)
    add: list[int] = []
    for number in rest:
        candidates = free[wanted[number]]
        if candidates:
            keep[candidates.popleft().id] = number
        else:
            add.append(number)
    drop = tuple(chunk.id for chunks in free.values() for chunk in chunks)
    return Diff(tuple(keep.items()), drop, tuple(add))
