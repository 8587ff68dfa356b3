"""Options of models and endpoints: what there is, and what it may be."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evergreen.catalog import json_objects
from evergreen.core.errors import UserError
from evergreen.embedding.http import addresses, parameters

_LARGEST = 2**31 - 1  # what the view embed_models can show
_MAX_SECONDS = 240  # shorter than a lease
_MAX_IN_FLIGHT = 64
_MAX_HEADER = 200
_SLOWEST = 0.01  # a minute
#: Of these, what is part of a vector's identity: another value would be another model under the same vectors.
IDENTITY = frozenset({"document_prompt", "query_prompt", "send_dimensions"})


@dataclass(frozen=True)
class Kind:
    """What an option may be: a check, and the words for it."""

    fits: Callable[[Any], bool]
    words: str
    shown: bool = True  # False where a wrong value may hold a secret


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(high: int) -> Kind:
    return Kind(lambda v: type(v) is int and 1 <= v <= high, f"a whole number from 1 to {high}")


def _is_header(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_HEADER and value.isascii() and value.isprintable()


_COUNT = _whole(_LARGEST)


_TEXT = Kind(lambda v: isinstance(v, str), "a text")


_FLAG = Kind(lambda v: isinstance(v, bool), "true or false")


_SECONDS = Kind(
    lambda v: _is_number(v, math.ulp(0.0), _MAX_SECONDS), f"a number of seconds above 0, at most {_MAX_SECONDS}"
)


_RATE = Kind(lambda v: _is_number(v, _SLOWEST, 1e15), f"a number, {_SLOWEST} or more")


_NAMED = Kind(
    parameters.is_object,
    'an object of at most 20 names and values; a value may be {"secret": "name"}, with the name of a secret',
    shown=False,
)


_HEADER = Kind(_is_header, f"an identifier of at most {_MAX_HEADER} printable ASCII characters", shown=False)


#: What embed_model_add takes.
MODEL: dict[str, Kind] = {
    "inputs": _COUNT,
    "request_tokens": _COUNT,
    "input_tokens": _COUNT,
    "document_prompt": _TEXT,
    "query_prompt": _TEXT,
    "send_dimensions": _FLAG,
    "encoding_format": Kind(lambda v: v in ("base64", "float"), "'base64' or 'float'"),
    "price": Kind(lambda v: _is_number(v, 0, 1e9), "what a million tokens cost, 0 or more"),
}


#: What embed_endpoint_set takes.
ENDPOINT: dict[str, Kind] = {
    "connect_timeout": _SECONDS,
    "read_timeout": _SECONDS,
    "total_timeout": _SECONDS,
    "max_in_flight": _whole(_MAX_IN_FLIGHT),
    "requests_per_minute": _RATE,
    "tokens_per_minute": _RATE,
    "allow_http": _FLAG,
    "organization": _HEADER,
    "project": _HEADER,
    "query": _NAMED,
    "headers": _NAMED,
    "proxy": Kind(
        lambda v: isinstance(v, str) and addresses.is_proxy(v),
        "the URL of an HTTP proxy, such as 'http://proxy.example.com:3128', without user or password",
        shown=False,
    ),
}


def read(of: str, kinds: dict[str, Kind], given: str | None, example: str) -> dict[str, Any]:
    """Return checked options of a model or an endpoint (``of``); raises UserError 22023."""
    options = json_objects.parse(given, example)
    for name, value in options.items():
        check(of, kinds, name, value)
    return options


def check(of: str, kinds: dict[str, Kind], name: str, value: Any) -> None:
    """Check one option of a model or an endpoint (``of``); raises UserError 22023."""
    if name not in kinds:
        raise UserError(f'there is no {of} option "{name}"', hint=f"Options are: {', '.join(sorted(kinds))}.")
    if not kinds[name].fits(value):
        what = json.dumps(value) if kinds[name].shown else "this value"
        raise UserError(f'{of} option "{name}" cannot be {what}', hint=f"It is {kinds[name].words}.")
