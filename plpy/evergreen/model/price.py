"""What sending texts to a model takes: calls, money, time. All of it is reckoned, none of it measured."""

import math
from dataclasses import dataclass

from evergreen.model.provider import Limits
from evergreen.model.spec import Model

# Where nothing better is known: a request to a server takes half a second, a text in this process half a millisecond.
_REQUEST_SECONDS = 0.5
_TEXT_SECONDS = 0.0005
# Reading, comparing and writing a row.
_ROW_SECONDS = 0.0002


@dataclass(frozen=True)
class Bill:
    """An estimate. ``cost`` is None where the model has no price."""

    texts: int = 0
    tokens: int = 0
    calls: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Bill") -> "Bill":
        """Both, one after the other."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Bill(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.calls + other.calls,
            cost,
            self.seconds + other.seconds,
        )


@dataclass
class Load:
    """What is to be done: rows to look at, and what is to be sent of them."""

    rows: float = 0
    texts: float = 0
    tokens: float = 0
    calls: float = 0

    def times(self, factor: float) -> "Load":
        """Return so many times as much."""
        return Load(self.rows * factor, self.texts * factor, self.tokens * factor, self.calls * factor)


def bill(model: Model, load: Load, limits: Limits, *, free: bool) -> Bill:
    """Put a price on a load: the model's option ``price``, its endpoint's limits, else the defaults above."""
    texts, tokens, calls = (math.ceil(amount) for amount in (load.texts, load.tokens, load.calls))
    price = 0.0 if free or not tokens else model.price
    cost = None if price is None else tokens * price
    seconds = texts * _TEXT_SECONDS if free else _seconds(model, tokens, calls, limits)
    return Bill(texts, tokens, calls, cost, seconds + load.rows * _ROW_SECONDS)


def _seconds(model: Model, tokens: int, calls: int, limits: Limits) -> float:
    """The slowest of: answers, so many at a time; the quota of requests a minute; that of tokens."""
    options = model.endpoint.options if model.endpoint is not None else {}
    quotas = ((calls, options.get("requests_per_minute")), (tokens, options.get("tokens_per_minute")))
    waits = [60.0 * amount / float(quota) for amount, quota in quotas if quota]
    return max([math.ceil(calls / limits.in_flight) * _REQUEST_SECONDS, *waits])
