"""Where a worker begins to look: at the start while that is cheap, and else only now and then."""

import pytest

from evergreen.db.snapshots import Snapshot
from evergreen.queue import scan_start
from evergreen.queue.scan_start import ScanStart, ScanStarts, SnapshotMark


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(scan_start.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_snapshot_is_read():
    assert SnapshotMark.of(Snapshot.parse("740:745:740,742")) == SnapshotMark(745, (740, 742))
    assert SnapshotMark.of(Snapshot.parse("740:740:")) == SnapshotMark(740)


def test_a_cheap_look_is_repeated_at_once(clock):
    floor = ScanStart(SnapshotMark(7))
    floor.record(0.0005, 0, from_start=True)
    assert floor.known() is None
    floor.record(0.0105, 1000, from_start=True)  # most of it went to what was found
    assert floor.known() is None


def test_a_dear_look_is_repeated_when_it_takes_a_small_share_of_the_time(clock):
    floor = ScanStart(SnapshotMark(7))
    floor.record(0.1, 10, from_start=True)
    assert floor.known() == SnapshotMark(7)
    floor.record(0.5, 10, from_start=False)  # it is the look from the start that counts
    clock(1.9)
    assert floor.known() == SnapshotMark(7)
    clock(0.2)
    assert floor.known() is None
    floor.record(60, 10, from_start=True)
    clock(11)
    assert floor.known() is None, "however long it takes, what was put back does not wait for ever"


def test_it_is_written_down_once_a_second(clock):
    floor = ScanStart()
    assert floor.is_advance_due()
    clock(0.9)
    assert not floor.is_advance_due()
    clock(0.2)
    assert floor.is_advance_due()


def test_each_queue_has_its_own(clock):
    found = ScanStarts()
    found.of("job", 1, 0).seen = SnapshotMark(7)
    assert found.of("job", 1, 0).seen == SnapshotMark(7)
    assert found.of("job", 1, 1).seen is None
