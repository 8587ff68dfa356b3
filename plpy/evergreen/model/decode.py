"""Read the vectors of an answer, as base64 or numbers, whichever came. What is no vector is one without dimensions."""

import base64
import json
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from evergreen.model.provider import Vector

_NOTHING = np.empty(0, dtype=np.float32)


def parsed(body: bytes) -> Any:
    """Read JSON; raises ValueError. Not-a-number, which JSON does not have and some servers write, is read too."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def vector(item: Any) -> Vector:
    """Return one vector; of no dimensions where the item is none, so that the other texts keep theirs."""
    if isinstance(item, str):
        return _from_base64(item)
    if not isinstance(item, list):
        return _NOTHING
    try:
        read: NDArray[Any] = np.asarray(cast("list[Any]", item))
    except (ValueError, OverflowError):  # lists within the list
        return _NOTHING
    if read.ndim != 1 or read.dtype.kind not in "fiu":
        return _NOTHING
    with np.errstate(over="ignore"):  # becomes infinite, and is refused for that
        return read.astype(np.float32)


def _from_base64(text: str) -> Vector:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32, copy=False)
    except ValueError:
        return _NOTHING


def in_order(items: Any, name: str) -> list[Any]:
    """Return the vectors under a name in the order of their ``index``; raises ValueError if that is none.

    Items without an index, and those that are null, take the places that are left.
    """
    if not isinstance(items, list):
        raise ValueError("no list of vectors")  # noqa: TRY004 - it is the answer that is wrong, not our code
    items = cast("list[Any]", items)
    given = {place: item for item in items if (place := _index(item)) is not None}
    if sum(_index(item) is not None for item in items) != len(given) or not set(given) <= set(range(len(items))):
        raise ValueError("the indexes of the vectors are not 0, 1, 2 …")
    rest = iter([item for item in items if _index(item) is None])
    ordered: Iterable[Any] = (given[i] if i in given else next(rest) for i in range(len(items)))
    return [member(item, name) for item in ordered]


def _index(item: Any) -> int | None:
    place = member(item, "index")
    return place if type(place) is int else None


def member(value: Any, *path: str) -> Any:
    """Return what stands under a path of names in JSON; None where there is no such thing."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(name)
    return value


def count(value: Any) -> int | None:
    """Return a number of tokens, or None for what is none."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else None  # noqa: PLR2004
