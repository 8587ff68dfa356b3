"""Read an answer: vectors, usage, and what its headers say of limits."""

import base64
import email.utils
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from evergreen.core.embedding import Vector

_NOTHING = np.empty(0, dtype=np.float32)
LONGEST = 3600.0
_BUSY = (429, 503)
_KINDS = ("requests", "tokens")
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?\Z", re.ASCII)
_PART = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ms|us|µs|ns|d|h|m|s)"
_DURATION = re.compile(f"(?:{_PART})+\\Z", re.ASCII)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_A_DATE = 1e9  # no server asks for a pause of thirty years: so large a number is a time since 1970
Headers = Mapping[str, str]


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


def after_refusal(headers: Headers, status: int, now: float) -> float | None:
    """Return for how long a refusal asks to be left alone, or None. ``now``: seconds since 1970."""
    told = _retry_after(headers, now)
    if told is None and status in _BUSY:
        of_course = {None, 0.0} if status == _BUSY[0] else {0.0}
        spent = [kind for kind in _KINDS if _number(headers.get(f"x-ratelimit-remaining-{kind}")) in of_course]
        resets = [_reset(headers, kind, now) for kind in spent]
        told = max((reset for reset in resets if reset is not None), default=None)
    return None if told is None else _capped(told)


def after_answer(headers: Headers, tokens: int, now: float) -> float:
    """Return for how long to wait before another request like the one that was answered, of so many tokens."""
    pause = _retry_after(headers, now) or 0.0
    if _number(headers.get("x-ratelimit-remaining-requests")) == 0:
        pause = max(pause, _reset(headers, "requests", now) or 0.0)
    left = _number(headers.get("x-ratelimit-remaining-tokens"))
    if left is not None and left < tokens:
        limit = _number(headers.get("x-ratelimit-limit-tokens"))
        refilled = (tokens - left) / limit * 60 if limit else _reset(headers, "tokens", now)
        pause = max(pause, refilled or 0.0)
    return _capped(pause)


def duration(text: str | None) -> float | None:
    """Read ``6m0s``, ``1h2m3.5s``, ``20ms`` or a plain number of seconds; None for anything else."""
    text = (text or "").strip()
    if _NUMBER.match(text):
        return float(text)
    if not _DURATION.match(text):
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(_PART, text))


def _retry_after(headers: Headers, now: float) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = duration(text)
    if seconds is not None or text is None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _reset(headers: Headers, kind: str, now: float) -> float | None:
    told = duration(headers.get(f"x-ratelimit-reset-{kind}"))
    return told - now if told is not None and told >= _A_DATE else told


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.match(text) else None


def _capped(seconds: float) -> float:
    return min(LONGEST, max(0.0, seconds)) if math.isfinite(seconds) else LONGEST
