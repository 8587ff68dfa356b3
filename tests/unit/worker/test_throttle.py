"""How much backfill is taken at a time, alone and beside live work."""

import pytest

from evergreen.worker import throttle
from evergreen.worker.throttle import Throttle


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def a_pass(measured, clock, rows, seconds):
    measured.begin()
    measured.record_backfill(rows)
    clock(seconds)
    measured.end()


def test_alone_it_is_all_there_is_room_for(clock):
    measured = Throttle()
    a_pass(measured, clock, 1000, 10)
    assert measured.room(1000) == 1000


def test_beside_live_work_it_is_what_an_instant_takes(clock):
    measured = Throttle()
    measured.record_live_claim()
    assert measured.room(1000) == 50, "nothing is known of its pace"
    a_pass(measured, clock, 50, 0.01)
    assert measured.room(1000) == 150
    assert measured.room(100) == 100
    a_pass(measured, clock, 100, 2)
    assert measured.room(1000) == 50
    clock(6)
    assert measured.room(1000) == 1000, "no live writes for a while"
