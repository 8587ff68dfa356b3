"""Reciprocal rank fusion against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.search.search import rrf

RANKED = st.lists(st.integers(0, 30), unique=True, max_size=20)


def test_the_figures_of_the_definition():
    found = rrf([["a", "b"], ["b", "c"]])
    assert [one for one, _ in found] == ["b", "a", "c"]
    assert [score for _, score in found] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


@given(st.lists(RANKED, max_size=3))
def test_what_is_in_any_list_is_there_once_and_in_order(lists):
    found = rrf(lists)
    assert sorted(one for one, _ in found) == sorted({one for ranked in lists for one in ranked})
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@given(RANKED)
def test_one_list_keeps_its_order(ranked):
    assert [one for one, _ in rrf([ranked])] == ranked
