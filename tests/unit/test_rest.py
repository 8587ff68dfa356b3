"""The reader of the WAL rests three times as long as readings take, if more than one does."""

from evergreen.detect.rest import Rest


def test_short_readings_follow_each_other():
    rest = Rest()
    assert [rest.after(0.001) for _ in range(3)] == [0.02] * 3


def test_long_readings_leave_time_in_between():
    rest = Rest()
    rest.after(2)
    assert rest.after(1) == 3
    assert rest.after(4) == 3


def test_one_long_reading_is_no_reason_to_wait():
    rest = Rest()
    rest.after(0.001)
    assert rest.after(4) == 0.02
    assert rest.after(0.001) == 0.02
