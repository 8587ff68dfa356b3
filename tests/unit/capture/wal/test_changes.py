"""Which keys a change tells of, and which transactions a snapshot sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.capture.wal.changes import UnknownKeyError, Watcher, keys
from evergreen.capture.wal.decoder import UNCHANGED, Change, Relation
from evergreen.db.snapshots import Snapshot

RELATION = Relation(7, ("body", "id", "tenant", "n"), (25, 23, 25, 23))
WATCHER = Watcher(1, ("tenant", "id"), (25, 23), frozenset({"body"}))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Change(7, None, ("text", "1", "a", None)), {("a", "1")}),
        (Change(7, (None, "1", "a", None), ("text", "2", "a", "5")), {("a", "1"), ("a", "2")}),
        (Change(7, (None, "1", "a", None), None), {("a", "1")}),
        (Change(7, ("text", "1", "a", "5"), None, whole=True), {("a", "1")}),
        (Change(7, (None, "1", "a", None), (UNCHANGED, UNCHANGED, "b", "5")), {("a", "1"), ("b", "1")}),
        (Change(7, ("text", "1", "a", "5"), ("text", "1", "a", "6"), whole=True), set()),
        (Change(7, ("text", "1", "a", "5"), (UNCHANGED, "1", "a", "6"), whole=True), set()),
        (Change(7, ("text", "1", "a", "5"), ("other", "1", "a", "5"), whole=True), {("a", "1")}),
        (Change(7, (None, "1", "a", "5"), ("", "1", "a", "5"), whole=True), {("a", "1")}),
        (Change(7, ("text", "1", "a", "5"), ("text", "1", "b", "5"), whole=True), {("a", "1"), ("b", "1")}),
    ],
)
def test_keys(change, found):
    assert keys(WATCHER, RELATION, change) == found


@pytest.mark.parametrize(
    ("relation", "change"),
    [
        (Relation(7, ("body", "nr", "tenant"), (25, 23, 25)), Change(7, None, ("text", "1", "a"))),
        (Relation(7, ("body", "id", "tenant"), (25, 25, 25)), Change(7, None, ("text", "1", "a"))),
        (RELATION, Change(7, None, ("text",))),
        (RELATION, Change(7, None, ("text", None, "a", "5"))),
        (RELATION, Change(7, None, ("text", UNCHANGED, "a", "5"))),
        (RELATION, Change(7, (None, None, None, "5"), None)),
    ],
)
def test_what_does_not_tell_the_key_says_so(relation, change):
    with pytest.raises(UnknownKeyError):
        keys(WATCHER, relation, change)


@given(st.integers(3, 2**40), st.integers(0, 1000), st.sets(st.integers(0, 1000)), st.integers(-(2**30), 2**30))
def test_a_snapshot_sees_what_was_over(xmin, width, offsets, distance):
    """Also if the 32-bit numbers wrap around between the transaction and the snapshot."""
    xmax = xmin + width
    running = {xmin + offset for offset in offsets if offset < width}
    snapshot = Snapshot.parse(f"{xmin}:{xmax}:{','.join(map(str, sorted(running)))}")
    xid = xmax + distance
    if xid > 0:
        assert snapshot.sees(xid % 2**32) == (xid < xmax and xid not in running)
