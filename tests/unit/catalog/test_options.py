"""Options are merged, reset and checked."""

import json

import pytest

from evergreen.catalog import options
from evergreen.core.errors import UserError


def test_options_are_merged_and_null_resets():
    stored = {"max_attempts": 3, "live_share": 0.5}
    merged = options.merge(stored, '{"max_attempts": null, "on_too_long": "truncate"}')
    assert merged == {"live_share": 0.5, "on_too_long": "truncate"}
    assert stored == {"max_attempts": 3, "live_share": 0.5}, "what was stored is not changed in place"


def test_an_option_that_is_not_set_has_its_default():
    assert options.effective({}, "max_attempts") == options.PIPELINE["max_attempts"].default
    assert options.effective({"max_attempts": 2}, "max_attempts") == 2


def test_every_default_is_allowed():
    for name, option in options.PIPELINE.items():
        assert option.default is None or option.wrong(option.default) is None, name


@pytest.mark.parametrize(
    ("given", "sqlstate"),
    [
        ({"max_atempts": 3}, "22023"),
        ({"max_attempts": 0}, "22023"),
        ({"max_attempts": 1.5}, "22023"),
        ({"max_attempts": True}, "22023"),
        ({"max_attempts": "3"}, "22023"),
        ({"on_too_long": "cut"}, "22023"),
        ({"on_too_long": ["fail"]}, "22023"),
        ({"on_too_long": {}}, "22023"),
        ({"live_share": 0}, "22023"),
        ({"wakeup": "on"}, "22023"),
        ({"wakeup": 1}, "22023"),
        ({"live_share": 1}, "22023"),
        ({"live_share": False}, "22023"),
        ({"live_share": "0.5"}, "22023"),
        ([], "22023"),
        ("max_attempts", "22023"),
        (None, "22023"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_hint(given, sqlstate):
    with pytest.raises(UserError) as refused:
        options.merge({}, json.dumps(given))
    assert refused.value.sqlstate == sqlstate
    assert refused.value.hint


def test_one_wrong_option_changes_none():
    stored = {"max_attempts": 3}
    with pytest.raises(UserError):
        options.merge(stored, '{"max_attempts": 4, "nonsense": 1}')
    assert stored == {"max_attempts": 3}


PAIRED = {
    "NULL": (None, ["v"], "22004", "hashes is NULL or contains a NULL"),
    "a NULL": ([b"h"], [None], "22004", "vectors is NULL or contains a NULL"),
    "two dimensions": ([[b"h"]], ["v"], "2202E", "hashes must have one dimension"),
    "two lengths": ([b"h", b"i"], ["v"], "2202E", "there are 2 hashes and 1 vectors"),
}


def test_arrays_of_one_length_are_paired():
    assert options.paired_arrays(("hashes", "vectors"), [b"h", b"i"], ["v", "w"], "") == ([b"h", b"i"], ["v", "w"])
    assert options.paired_arrays(("hashes", "vectors"), [], [], "") == ([], [])


@pytest.mark.parametrize("case", PAIRED)
def test_arrays_that_do_not_pair_are_refused(case):
    first, second, state, message = PAIRED[case]
    with pytest.raises(UserError) as raised:
        options.paired_arrays(("hashes", "vectors"), first, second, "Pass one vector for each hash.")
    assert (raised.value.sqlstate, str(raised.value)) == (state, message)
    assert raised.value.hint == "Pass one vector for each hash."
