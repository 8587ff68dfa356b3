"""Texts to requests: how many fit, and what they cost."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from evergreen.core import text as text_module
from evergreen.core.embedding import EmbeddingTask, Limits, RequestBatch, Texts
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.limits.rate_limit import BURST

# Where nothing better is known: a request to a server takes half a second, a text in this process half a millisecond.
_REQUEST_SECONDS = 0.5
_TEXT_SECONDS = 0.0005
# Reading, comparing and writing a row.
_ROW_SECONDS = 0.0002
_TOKENS_A_ROW = 200
_FEW = 50  # rows: where a request holds less, a claim has several


def pack(texts: Texts, limits: Limits) -> Iterator[list[bytes]]:
    """Group texts into requests that hold no more inputs and tokens than it may; an over-long one goes alone."""
    request: list[bytes] = []
    total = 0
    for key, text in texts.items():
        cost = text_module.estimate_tokens(text)
        full = len(request) >= limits.inputs or (limits.request_tokens and total + cost > limits.request_tokens)
        if request and full:
            yield request
            request, total = [], 0
        request.append(key)
        total += cost
    if request:
        yield request


def pack_task(task: EmbeddingTask, limits: Limits, answers: int = 0) -> None:
    """Pack the texts of a task into batches; those of a request that failed come last, in smaller batches.

    A suspect, which is sent alone, may crash the server: if no other text goes first, a harmless one does.
    ``answers``: how many the model has given.
    """
    fresh = {key: text for key, text in task.texts.items() if key not in task.max_batch}
    task.waiting = deque(RequestBatch(keys) for keys in pack(fresh, limits))
    for most in sorted({*task.max_batch.values()}, reverse=True):
        some = {key: task.texts[key] for key, max_batch in task.max_batch.items() if max_batch == most}
        smaller = replace(limits, inputs=min(most, limits.inputs))
        again = RequestBatch([], since=answers, endpoint_works=True, alone=most == 1)
        task.waiting.extend(replace(again, keys=keys) for keys in pack(some, smaller))
    if task.canary_first and {*task.max_batch.values()} == {1} and not fresh:
        task.waiting.appendleft(RequestBatch([], canary=True))


@frozen
class CostEstimate:
    """An estimate. ``cost`` is None where the model has no price."""

    texts: int = 0
    tokens: int = 0
    calls: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0
    batch_texts: int = 0
    batch_cost: float | None = 0.0

    def __add__(self, other: "CostEstimate") -> "CostEstimate":
        """Both, one after the other."""
        return CostEstimate(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.calls + other.calls,
            _sum(self.cost, other.cost),
            self.seconds + other.seconds,
            self.batch_texts + other.batch_texts,
            _sum(self.batch_cost, other.batch_cost),
        )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


@dataclass
class Workload:
    """The work of a drain: rows to read, and the texts, tokens and calls to send."""

    rows: float = 0
    texts: float = 0
    tokens: float = 0
    calls: float = 0

    def times(self, factor: float) -> "Workload":
        """Return so many times as much."""
        return Workload(self.rows * factor, self.texts * factor, self.tokens * factor, self.calls * factor)

    def plus(self, other: "Workload") -> "Workload":
        """Return both."""
        return Workload(
            self.rows + other.rows, self.texts + other.texts, self.tokens + other.tokens, self.calls + other.calls
        )


def estimate_cost(model: Model, load: Workload, limits: Limits, *, free: bool) -> CostEstimate:
    """Put a price on a load: the model's option ``price``, its endpoint's limits, else the defaults above."""
    texts, tokens, calls = (math.ceil(amount) for amount in (load.texts, load.tokens, load.calls))
    price = 0.0 if free or not tokens else model.price
    cost = None if price is None else tokens * price
    seconds = texts * _TEXT_SECONDS if free else _seconds(model, tokens, calls, limits)
    return CostEstimate(texts, tokens, calls, cost, seconds + load.rows * _ROW_SECONDS)


def in_batches(model: Model, load: Workload, share: float) -> CostEstimate:
    """Put a price on a load that goes through a batch API, at a share of the price; when it is done is not known."""
    texts, tokens = math.ceil(load.texts), math.ceil(load.tokens)
    cost = None if model.price is None else tokens * model.price * share
    return CostEstimate(texts, tokens, 0, cost, 0.0, texts, cost)


def _seconds(model: Model, tokens: int, calls: int, limits: Limits) -> float:
    """The slowest of: answers, so many at a time; the quota of requests a minute; that of tokens."""
    options = model.endpoint.options if model.endpoint is not None else {}
    quotas = ((calls, options.get("requests_per_minute")), (tokens, options.get("tokens_per_minute")))
    waits = [60.0 * amount / float(quota) for amount, quota in quotas if quota]
    return max([math.ceil(calls / limits.in_flight) * _REQUEST_SECONDS, *waits])


def fitting(limits: Limits, endpoint: Endpoint | None) -> Limits:
    """Return limits of a request that a bucket of tokens has room for when it is full."""
    if endpoint is None or "tokens_per_minute" not in endpoint.options:
        return limits
    most = max(1, int(endpoint.options["tokens_per_minute"] * BURST))
    return replace(limits, request_tokens=min(limits.request_tokens or most, most))


def rows_worth_claiming(limits: Limits, endpoint: Endpoint | None, most: int) -> int:
    """Return how many rows to claim.

    What one request holds, so that its answer can be written at once; and no more than can be sent soon, so that a row
    that changes meanwhile is not held up.
    """
    options = endpoint.options if endpoint is not None else {}
    requests = options.get("requests_per_minute", math.inf) * limits.inputs
    tokens = options.get("tokens_per_minute", math.inf) / _TOKENS_A_ROW
    return max(1, round(min(most, requests / 2, tokens / 2, max(limits.inputs, limits.claim, _FEW))))
