"""Lines for programs: one line whatever is in it, and every value as it was."""

import json
import shlex

from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.text import logfmt, moment


def test_details_without_a_value_are_left_out():
    assert logfmt("breaker_opened", {"endpoint": "loop", "failures": 3, "reason": None}) == (
        "evergreen: event=breaker_opened endpoint=loop failures=3"
    )
    assert logfmt("x", {"pipeline": "my docs", "seconds": 0.5}) == 'evergreen: event=x pipeline="my docs" seconds=0.5'
    assert logfmt("x", {"name": 'a"\nb'}) == r'evergreen: event=x name="a\"\nb"'
    assert logfmt("x", {"name": ""}) == 'evergreen: event=x name=""'


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_a_value_is_read_back_as_it_was(value):
    told = logfmt("x", {"name": value})
    assert "\n" not in told
    assert "\r" not in told
    written = told.removeprefix("evergreen: event=x name=")
    assert (json.loads(written) if written.startswith('"') else written) == value
    if not written.startswith('"'):
        assert shlex.split(written) == [value]


def test_what_is_long_is_cut():
    assert len(logfmt("x", {"reason": "r" * 10_000})) < 400


def test_a_moment():
    assert moment(1_795_661_529_999_999) == "2026-11-26T02:52:09Z"
