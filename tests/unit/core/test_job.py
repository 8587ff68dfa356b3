"""Lanes: the numbers that the queue stores, and the names that logs and answers show."""

from evergreen.core.job import Lane


def test_lanes_have_the_numbers_of_the_table_and_the_names_of_the_answers():
    assert [(int(lane), lane.label) for lane in Lane] == [(0, "live"), (1, "backfill")]


def test_a_lane_is_a_number_for_the_server():
    assert [str(lane) for lane in Lane] == ["0", "1"]  # plpy hands over a parameter as its str()
