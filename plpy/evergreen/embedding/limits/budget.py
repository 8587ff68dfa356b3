"""A pipeline's daily budget, counted in sequences (see state.py): reserved before a request and settled after it.

A counter holds the day (UTC, since 1970) above 44 bits, and below them tokens, or millionths of the price's unit.
A third one tells whether anything is under way that may give back what it does not need: how many requests, below 20
bits, and above them the second until which the last of them may last. What a dead worker had under way stays spent.
"""

import math
from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.core.embedding import Budget
from evergreen.core.errors import RejectedError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model
from evergreen.core.text import moment
from evergreen.db import event_log
from evergreen.db.queries import load
from evergreen.embedding.limits import state

SQL = load(__package__)
T = TypeVar("T")
_BITS = 44
_MOST = (1 << _BITS) - 1
_DAY = 86_400
_MILLION = 1_000_000
_COUNT_BITS = 20
_LATE_S = 5.0  # seconds that a request may take longer than its time-out


@frozen
class Counter:
    """One of the two things that are counted, with what may be spent of it."""

    kind: str  # 'tokens' or 'cost'
    limit: int
    a_token: float  # in the counter's unit
    shown: float


def wait(budget: Budget | None) -> float:
    """Seconds until there is something to spend again: 0 now, or the rest of the day."""
    for counter in _counters(budget, None):
        assert budget is not None
        now, spent = _read(budget, counter)
        if spent >= counter.limit and not _count_in_flight(budget):
            return _DAY - now % _DAY
    return 0.0


def reserve(budget: Budget | None, model: Model, estimates: list[int]) -> int | None:
    """Take the tokens of as many texts as there is money for, from the first on; return how many.

    When there is none for the first one, the day is over: its counter is set to the limit. None while requests are
    under way, which may turn out cheaper than they were estimated: ask again. Raises RejectedError when no day could
    pay for the first. The caller must settle each reservation.
    """
    counters = _counters(budget, model)
    if budget is None or not counters:
        return len(estimates)
    for counter in counters:
        if estimates and round(estimates[0] * counter.a_token) > counter.limit:
            raise RejectedError(
                f"a text of about {estimates[0]} tokens costs more than a whole day's budget (daily_{counter.kind}:"
                f" {counter.shown}); raise that with embed_alter(), then embed_retry()"
            )
    return _with_lock(budget, lambda: _reserve(budget, counters, estimates, model.total_timeout))


def _reserve(budget: Budget, counters: list[Counter], estimates: list[int], seconds: float) -> int | None:
    count = len(estimates)
    for counter in counters:
        spent = _read(budget, counter)[1]
        fitting = _fitting(counter, counter.limit - spent, estimates[:count])
        if not fitting:
            if _count_in_flight(budget):
                return None
            if spent < counter.limit:
                _add(budget, counter, counter.limit - spent)
                _log_if_exhausted(budget, counter)
            return 0
        count = fitting
    _count_in_flight(budget, 1, seconds + _LATE_S)
    for counter in counters:
        _add(budget, counter, round(sum(estimates[:count]) * counter.a_token))
    return count


def _fitting(counter: Counter, room: int, estimates: list[int]) -> int:
    """Count the texts, from the first on, that there is room for."""
    for place, tokens in enumerate(estimates):
        room -= round(tokens * counter.a_token)
        if room < 0:
            return place
    return len(estimates)


def settle(budget: Budget | None, model: Model, tokens: int) -> None:
    """A request has ended: add what it cost beyond what was reserved for it; less than nothing gives back."""
    if budget is None or not (counters := _counters(budget, model)):
        return

    def add() -> None:
        under_way = _count_in_flight(budget, -1) - 1
        for counter in counters:
            _add(budget, counter, round(tokens * counter.a_token))
            if under_way <= 0:
                _log_if_exhausted(budget, counter)

    _with_lock(budget, add)


def _log_if_exhausted(budget: Budget, counter: Counter) -> None:
    """Write down that the day is over: when the last request has ended, or when none is under way and none can be."""
    now, spent = _read(budget, counter)
    if spent >= counter.limit:
        until = moment((now // _DAY + 1) * _DAY * _MILLION)
        event_log.warn(
            "budget_exhausted", pipeline=budget.pipeline, kind=counter.kind, limit=counter.shown, until=until
        )


def charge(budget: Budget | None, model: Model, estimates: list[int]) -> int:
    """As ``reserve``, for what is embedded elsewhere: no request of ours is under way that might turn out cheaper."""
    count = reserve(budget, model, estimates) or 0
    if count:
        settle(budget, model, 0)
    return count


def adjust(budget: Budget | None, model: Model, tokens: int) -> None:
    """Something that was taken cost so many tokens more; less than nothing gives back."""
    if budget is not None and tokens and (counters := _counters(budget, model)):
        _with_lock(budget, lambda: [_add(budget, counter, round(tokens * counter.a_token)) for counter in counters])


def _with_lock(budget: Budget, body: Callable[[], T]) -> T:
    return state.with_lock("pipeline", budget.pipeline, f"budget of pipeline {budget.pipeline}", body)


def _counters(budget: Budget | None, model: Model | None) -> list[Counter]:
    if budget is None:
        return []
    counters: list[Counter] = []
    if budget.tokens is not None:
        counters.append(Counter("tokens", round(budget.tokens), 1.0, budget.tokens))
    price = model.price if model is not None else 0.0
    if budget.cost is not None and price is not None:
        counters.append(Counter("cost", round(budget.cost * _MILLION), price * _MILLION, budget.cost))
    return counters


def _read_counter(budget: Budget, kind: str) -> tuple[int, int]:
    """Return the second since 1970, and what stands in a counter."""
    row = db.one(SQL.read.with_identifiers(pipeline=str(budget.pipeline), kind=kind))
    assert row is not None
    return int(row["now"]), int(row["value"])


def _read(budget: Budget, counter: Counter) -> tuple[int, int]:
    now, value = _read_counter(budget, counter.kind)
    return now, value & _MOST if value >> _BITS == now // _DAY else 0


def _add(budget: Budget, counter: Counter, amount: int) -> None:
    now, spent = _read(budget, counter)
    value = (now // _DAY << _BITS) + max(0, min(spent + amount, _MOST))
    db.run(SQL.write.with_identifiers(pipeline=str(budget.pipeline), kind=counter.kind), value)


def _count_in_flight(budget: Budget, change: int = 0, seconds: float = 0.0) -> int:
    """Count requests in flight; return how many there are, or were before this one started."""
    now, value = _read_counter(budget, "in_flight")
    until, count = value >> _COUNT_BITS, value & (1 << _COUNT_BITS) - 1
    count = count if until > now else 0
    if change:
        until = max(until, now + math.ceil(seconds))
        db.run(
            SQL.write.with_identifiers(pipeline=str(budget.pipeline), kind="in_flight"),
            max(1, until << _COUNT_BITS | max(0, count + change)),
        )
    return count
