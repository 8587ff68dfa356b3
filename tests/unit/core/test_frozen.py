"""Classes made by ``frozen`` behave as those made by ``dataclass(frozen=True)``, as far as we use them."""

from dataclasses import astuple, dataclass, field, replace
from typing import Any

import pytest

from evergreen.core.frozen import frozen


class _Point:
    x: int
    names: tuple[str, ...] = ()
    cache: dict[str, int] = field(default_factory=dict, compare=False)
    key: str = field(default="", repr=False)


def _made(decorator: Any) -> Any:
    return decorator(type("Point", (), dict(_Point.__dict__)))


@pytest.fixture(params=[frozen, dataclass(frozen=True)], ids=["ours", "dataclass"])
def point(request: pytest.FixtureRequest) -> Any:
    """The class, made in either way."""
    return _made(request.param)


def test_equal_values_are_equal_and_have_one_hash(point: Any):
    assert point(1, ("a",)) == point(1, ("a",))
    assert hash(point(1, ("a",))) == hash(point(1, ("a",)))
    assert point(1) != point(2)
    assert point(1, key="a") != point(1, key="b")


def test_a_field_may_be_left_out_of_the_comparison(point: Any):
    assert point(1, cache={"a": 1}) == point(1)
    assert hash(point(1, cache={"a": 1})) == hash(point(1))


def test_another_class_is_not_equal(point: Any):
    assert point(1) != type("Other", (point,), {})(1)
    assert point(1) != (1, (), {}, "")


def test_a_secret_is_not_shown(point: Any):
    assert repr(point(1, ("a",), key="secret")).endswith("Point(x=1, names=('a',), cache={})")


def test_it_is_a_dataclass(point: Any):
    assert replace(point(1, ("a",)), x=2) == point(2, ("a",))
    assert astuple(point(1)) == (1, (), {}, "")
    assert point(1).cache is not point(1).cache


def test_what_is_derived_compares_its_own_fields_too():
    point = _made(frozen)

    @frozen
    class Labelled(point):
        label: str = ""

    assert Labelled(1, label="a") != Labelled(1, label="b")
    assert Labelled(1, label="a") == Labelled(1, label="a")
