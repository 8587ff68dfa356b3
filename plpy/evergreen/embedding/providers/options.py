"""Options of models and endpoints: what there is, and what it may be."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evergreen.catalog import json_objects
from evergreen.catalog import options as pipeline_options
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.embedding.batches import registry
from evergreen.embedding.http import addresses, parameters

_LARGEST = 2**31 - 1  # what the view embed_models can show
_MAX_SECONDS = 240  # shorter than a lease
_MAX_IN_FLIGHT = 64
_MAX_HEADER = 200
_SLOWEST = 0.01  # a minute
#: Of these, what is part of a vector's identity: another value would be another model under the same vectors.
IDENTITY = frozenset({"document_prompt", "query_prompt", "send_dimensions"})


@frozen
class Kind:
    """What an option may be: a check, and the words for it; ``about``: what it means."""

    fits: Callable[[Any], bool]
    words: str
    shown: bool = True  # False where a wrong value may hold a secret
    about: str = ""

    def of(self, about: str) -> "Kind":
        """Return one option of this kind."""
        return replace(self, about=about)


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(high: int) -> Kind:
    return Kind(lambda v: type(v) is int and 1 <= v <= high, f"a whole number from 1 to {high}")


def _is_header(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_HEADER and value.isascii() and value.isprintable()


_COUNT = _whole(_LARGEST)
_NAMES = ", ".join(f"'{name}'" for name in registry.NAMES)


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
    "inputs": _COUNT.of("texts in one request; default: the provider's documented limit"),
    "request_tokens": _COUNT.of("tokens in one request; default: the provider's documented limit"),
    "input_tokens": _COUNT.of("tokens in one text; default: the provider's documented limit"),
    "document_prompt": _TEXT.of("prefix of every text that is embedded for a row"),
    "query_prompt": _TEXT.of("prefix of every question"),
    "send_dimensions": _FLAG.of("request vectors of the registered size from the server; default: false"),
    "encoding_format": Kind(lambda v: v in ("base64", "float"), "'base64' or 'float'").of(
        "how the server is asked to send vectors; answers in either form are accepted"
    ),
    "price": Kind(lambda v: _is_number(v, 0, 1e9), "what a million tokens cost, 0 or more").of(
        "what a million tokens cost; needed for daily_cost and for costs in views; 0: it needs no embed_user"
    ),
    "watch": Kind(
        lambda v: v is None or (isinstance(v, str) and pipeline_options.is_interval(v)),
        "an interval such as '1 hour', or null for never",
    ).of("how often workers compare the model with what it was; null: never; default: the setting watch"),
    "drift_limit": Kind(lambda v: _is_number(v, 1e-6, 1), "a number from 0.000001 to 1").of(
        "1 - cosine from which on it counts as another model; default: 0.02"
    ),
}


#: What embed_endpoint_set takes.
ENDPOINT: dict[str, Kind] = {
    "connect_timeout": _SECONDS.of("longest time until the connection stands; default: 5"),
    "read_timeout": _SECONDS.of("longest time without a byte of the answer; default: 30"),
    "total_timeout": _SECONDS.of("longest time for the whole request; default: 60"),
    "max_in_flight": _whole(_MAX_IN_FLIGHT).of("requests that one worker keeps in flight; default: the provider's"),
    "requests_per_minute": _RATE.of("requests of all workers together in any minute; default: no limit"),
    "tokens_per_minute": _RATE.of("tokens of all workers together in any minute; default: no limit"),
    "allow_http": _FLAG.of("allow http to addresses that are not on this machine; default: false"),
    "organization": _HEADER.of("OpenAI's organization, sent as a header"),
    "project": _HEADER.of("OpenAI's project, sent as a header"),
    "query": _NAMED.of("parameters added to the URL of every request"),
    "headers": _NAMED.of("headers added to every request"),
    "proxy": Kind(
        lambda v: isinstance(v, str) and addresses.is_proxy(v),
        "the URL of an HTTP proxy, such as 'http://proxy.example.com:3128', without user or password",
        shown=False,
        about="proxy for requests to this endpoint; proxies from the environment are ignored",
    ),
    "batch_api": Kind(lambda v: v in registry.NAMES, f"one of {_NAMES}").of(
        "whose format the server's batch API has, which embeds history later and cheaper; default: it has none"
    ),
    "batch_discount": Kind(lambda v: _is_number(v, 0, 0.99), "a number from 0 to 0.99").of(
        "how much cheaper a batch is than requests: 0.5 is half the price; default: as the provider documents it"
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
