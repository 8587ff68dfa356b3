"""The rules of the road that all sessions of a database share: rate limits, breakers and budgets.

The state is in sequences, written under a mutex: everybody sees it at once, it survives a rollback, and it locks no row
that a drain left open in its transaction could keep. Runs SQL with the extension's rights.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from evergreen import db
from evergreen.core.embedding import Budget, EmbeddingTask
from evergreen.core.job import LIVE
from evergreen.core.pipeline import Endpoint, Model
from evergreen.core.text import moment
from evergreen.db import event_log
from evergreen.db.queries import load
from evergreen.embedding.limits import breaker, budget, rate_limit
from evergreen.embedding.limits import capacity as capacity_rules
from evergreen.embedding.limits import state as state_lock
from evergreen.embedding.limits.admission import UNKNOWN, Permit
from evergreen.embedding.limits.breaker import Breaker
from evergreen.embedding.limits.capacity import Capacity
from evergreen.embedding.limits.rate_limit import Bucket, Limit

SQL = load(__package__)
T = TypeVar("T")
_PROBE_EXTRA_S = 5.0
_BUDGET = "the pipeline's daily budget is spent; days are UTC"
_UNSETTLED = "what is left of the pipeline's daily budget is reserved for requests under way"
_LOOK_SOON = 0.05  # seconds until a slow server may have room
_LOOK_AGAIN = 0.02  # seconds until it may be known what a request under way has cost
_NO_PAUSE = 1.0  # seconds: a server that asks for less than this, again and again, is to be left alone for longer
_FULL = Bucket(0, 0)
Failed = Callable[..., Breaker]


@dataclass(frozen=True)
class State:
    """What is known at one moment (microseconds since 1970) of a model and, where it has one, its endpoint."""

    now: int
    model: Breaker
    endpoint: Breaker = breaker.CLOSED
    requests: Bucket = _FULL
    tokens: Bucket = _FULL
    capacity: Capacity = UNKNOWN
    in_flight: int = 0  # what all have under way at the endpoint


class SharedLimits:
    """Asks and tells what all workers know."""

    def wait(self, model: Model, spender: Budget | None) -> Permit:
        """Look, without a lock."""
        state = _read(model)
        permit = _rest(model, state) or _budget_wait(spender)
        permit = permit or _rate_wait(model, state, _limits(model.endpoint, 1.0), live=True)
        return replace(permit, capacity=state.capacity)

    def acquire(self, task: EmbeddingTask, estimates: list[int]) -> Permit:
        """Give leave if model and endpoint work, and rate and budget have room; take what is given out of them."""
        return _without_lock(task, estimates) or _with_lock(task.model, lambda: _acquire(task, estimates))

    def succeeded(self, task: EmbeddingTask, permit: Permit, estimated: int, billed: int | None, pause: float) -> None:
        """Close what was open, and settle what was only estimated."""
        difference = 0 if billed is None else billed - estimated
        budget.settle(task.budget, task.model, difference)
        limits = {k: v for k, v in _limits(task.model.endpoint, task.live_share).items() if k == "tokens"}
        if not (permit.probe or permit.endpoint_failures or permit.model_failures or pause or (difference and limits)):
            return

        def change(state: State) -> State:
            new = _spend(state, limits, {"tokens": float(difference)}, live=task.lane == LIVE)
            if permit.probe or permit.endpoint_failures:
                new = replace(new, endpoint=breaker.CLOSED)
            if permit.probe or permit.model_failures:
                new = replace(new, model=breaker.CLOSED)
            if pause:
                new = replace(new, endpoint=breaker.paused(new.endpoint, state.now, pause, probe=False))
            return new

        _change(task.model, change)

    def failed(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Let the endpoint rest: as long as it asks, or longer with each failure."""
        self._fail(task, permit, estimated, pause, breaker.failed)

    def down(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Let the endpoint rest: it fails whatever it is sent."""
        self._fail(task, permit, estimated, pause, breaker.tripped)

    def inconclusive(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Count nothing against the endpoint; if this was a probe, the next request is one again."""
        budget.settle(task.budget, task.model, -estimated)
        is_asked = pause is not None and pause >= _NO_PAUSE
        if not (permit.probe or is_asked):
            return

        def change(state: State) -> State:
            held = state.endpoint
            if permit.probe and permit.endpoint_failures == held.failures:
                held = replace(held, open_until=breaker.TRY_ONCE)
            if is_asked and pause is not None:
                held = breaker.paused(held, state.now, pause, probe=permit.probe)
            return replace(state, model=_end_probe_hold(state.model, permit), endpoint=held)

        _change(task.model, change)

    def _fail(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None, how: Failed) -> None:
        budget.settle(task.budget, task.model, -estimated)

        def change(state: State) -> State:
            new = replace(state, model=_end_probe_hold(state.model, permit))
            if task.model.endpoint is None:
                return replace(new, model=_failed(new.model, breaker.MODEL, state, permit.model_failures, permit))
            if pause is not None and pause >= _NO_PAUSE:
                return replace(new, endpoint=breaker.paused(state.endpoint, state.now, pause, probe=permit.probe))
            seen = permit.endpoint_failures
            return replace(new, endpoint=_failed(state.endpoint, breaker.ENDPOINT, state, seen, permit, how))

        _change(task.model, change)

    def refused(self, task: EmbeddingTask, permit: Permit, estimated: int, *, misconfigured: bool) -> None:
        """Note that the endpoint works; let a model rest that does not."""
        budget.settle(task.budget, task.model, -estimated)
        if not (misconfigured or permit.probe or permit.endpoint_failures):
            return

        def change(state: State) -> State:
            new = replace(state, model=_end_probe_hold(state.model, permit))
            if permit.probe or permit.endpoint_failures:
                new = replace(new, endpoint=breaker.CLOSED)
            if misconfigured:
                new = replace(new, model=_failed(new.model, breaker.MODEL, state, permit.model_failures, permit))
            return new

        _change(task.model, change)

    def completed(self, task: EmbeddingTask, permit: Permit, texts: int, seconds: float | None) -> None:
        """Take the work off the endpoint's, and learn from a good answer."""
        model, limit = task.model, task.model.answer_timeout
        if model.endpoint is None:
            return

        def learn(found: Capacity) -> Capacity:
            if seconds is None:
                return found
            found = capacity_rules.measured(found, limit, seconds, texts, permit.ahead)
            return capacity_rules.passed(found, texts)

        def change(state: State) -> State:
            new = replace(state, capacity=learn(state.capacity))
            if permit.booked is None:
                return new
            amount, at = permit.booked
            return replace(
                new,
                in_flight=capacity_rules.book(state.in_flight, capacity_rules.period(state.now, limit), at, -amount),
            )

        if permit.booked is None and not permit.capacity.bad and not _is_slower(task, permit, texts, seconds):
            return
        _change(model, change)

    def too_large(self, task: EmbeddingTask, size: int, good: int) -> None:
        """Send no more than what passed, until it has grown again."""
        _change(task.model, lambda s: replace(s, capacity=capacity_rules.outgrown(s.capacity, size, good, s.now)))


def try_once(model: Model) -> str | None:
    """Let one request through to a model or endpoint that rests; return why it rests, None where it does not.

    Raises RetryableError when another session sits on the shared state.
    """
    rest = _rest(model, _read(model))
    if rest is not None:
        _change(
            model,
            lambda state: replace(
                state,
                model=breaker.try_once(state.model, state.now),
                endpoint=breaker.try_once(state.endpoint, state.now),
            ),
        )
    return rest.reason if rest is not None else None


def _is_slower(task: EmbeddingTask, permit: Permit, texts: int, seconds: float | None) -> bool:
    """Tell whether a server that was fast has become slow: anything else is not worth the mutex."""
    limit, limits = task.model.answer_timeout, task.provider.limits(task.model)
    found = permit.capacity
    if seconds is not None:
        found = capacity_rules.measured(found, limit, seconds, texts, permit.ahead)
    return capacity_rules.is_slow(found, limit, limits.inputs * limits.in_flight)


def _without_lock(task: EmbeddingTask, estimates: list[int]) -> Permit | None:
    """Give leave where nothing is to be taken out of anything: without the mutex, which costs a transaction id."""
    if task.budget is not None or _limits(task.model.endpoint, task.live_share):
        return None
    state = _read(task.model)
    if _rest(task.model, state) or _is_probe(state):
        return None
    fits = _fitting(task, state, len(estimates))
    if fits.booked is not None and fits.granted:
        return None
    return replace(fits, endpoint_failures=state.endpoint.failures, model_failures=state.model.failures)


def _fitting(task: EmbeddingTask, state: State, texts: int) -> Permit:
    """Give leave for as many texts as the server can do in time, by what was learned of it."""
    model, found = task.model, state.capacity
    if model.endpoint is None:
        return Permit(texts=texts)
    limits, limit = task.provider.limits(model), model.answer_timeout
    most = capacity_rules.largest(found, limits, limit)
    if task.size_on_trial and found.good:
        most = min(most, found.good)
    if not capacity_rules.is_slow(found, limit, limits.inputs * limits.in_flight):
        return Permit(texts=min(texts, most), capacity=found)
    at = capacity_rules.period(state.now, limit)
    under_way = capacity_rules.under_way(state.in_flight, at)
    count = min(texts, most, capacity_rules.room(found, limit, under_way))
    if count < 1 and not task.waiting[0].canary:
        return Permit(_LOOK_SOON, reason=f"{_where(model)} has as much to do as it can in time")
    count = max(1, count)
    ahead = round(under_way / capacity_rules.a_text(found, limit))
    booked = (capacity_rules.work(found, limit, count), at)
    return Permit(texts=count, capacity=found, ahead=ahead, booked=booked)


def _acquire(task: EmbeddingTask, estimates: list[int]) -> Permit:
    model, live = task.model, task.lane == LIVE
    state = _read(model)
    limits = _limits(model.endpoint, task.live_share)
    permit = _rest(model, state) or _rate_wait(model, state, limits, live=live)
    if not permit.granted:
        return permit
    fits = _fitting(task, state, len(estimates))
    if not fits.granted:
        return fits
    is_probe = _is_probe(state)
    estimates = estimates[: fits.texts]
    count = budget.reserve(task.budget, model, estimates[:1] if is_probe else estimates)
    if count is None:
        return Permit(_LOOK_AGAIN, deferred=True, reason=_UNSETTLED)
    if count == 0:
        return _budget_wait(task.budget) or Permit(wait=_PROBE_EXTRA_S, open=True, reason=_BUDGET, scope="budget")
    taken = {"requests": 1.0, "tokens": float(sum(estimates[:count]))}
    new = _spend(state, limits, taken, live=live)
    if fits.booked is not None:
        amount, at = fits.booked
        new = replace(new, in_flight=capacity_rules.book(state.in_flight, at, at, amount))
    _write(model, state, _hold_probe(new, model) if is_probe else new)
    seen = {"endpoint_failures": state.endpoint.failures, "model_failures": state.model.failures}
    return replace(fits, texts=count, probe=is_probe, **seen)


def _rate_wait(model: Model, state: State, limits: dict[str, Limit], *, live: bool) -> Permit:
    """Return when the rate limits have room."""
    waits = (rate_limit.wait(getattr(state, kind), limit, state.now, live=live) for kind, limit in limits.items())
    return Permit(max(waits, default=0) / breaker.SECOND, reason=f"{_where(model)}: rate limit")


def _rest(model: Model, state: State) -> Permit | None:
    """Return how long a model or its endpoint rests, if it does."""
    for what, name, policy in (
        (state.model, f"model {model.name}", breaker.MODEL),
        (state.endpoint, _where(model), breaker.ENDPOINT),
    ):
        if wait := breaker.wait(what, state.now):
            is_open = what.failures >= policy.threshold
            why = f"{what.failures} failures in a row" if what.failures else "it asked for a pause"
            return Permit(wait / breaker.SECOND, open=is_open, reason=f"{name} rests after {why}", scope="rest")
    return None


def _budget_wait(spender: Budget | None) -> Permit | None:
    seconds = budget.wait(spender)
    if not seconds:
        return None
    return Permit(seconds, open=True, reason=_BUDGET, scope="budget")


def _is_probe(state: State) -> bool:
    return breaker.is_half_open(state.model, breaker.MODEL, state.now) or breaker.is_half_open(
        state.endpoint, breaker.ENDPOINT, state.now
    )


def _hold_probe(state: State, model: Model) -> State:
    """Keep others away while the probe is under way."""
    seconds = model.total_timeout + _PROBE_EXTRA_S
    new = state
    if breaker.is_half_open(state.model, breaker.MODEL, state.now):
        new = replace(new, model=breaker.probing(state.model, state.now, seconds))
    if breaker.is_half_open(state.endpoint, breaker.ENDPOINT, state.now):
        new = replace(new, endpoint=breaker.probing(state.endpoint, state.now, seconds))
    return new


def _end_probe_hold(held: Breaker, permit: Permit) -> Breaker:
    """End the hold that a probe put on its model, whatever came of it: the next request is a probe again."""
    return replace(held, open_until=0) if permit.probe and permit.model_failures == held.failures else held


def _failed(
    held: Breaker, policy: breaker.Policy, state: State, seen: int, permit: Permit, how: Failed = breaker.failed
) -> Breaker:
    # Jitter keeps workers from coming back in step.
    jitter = random.uniform(0.75, 1.25)  # noqa: S311 - not for secrets
    return how(held, policy, state.now, seen=seen, probe=permit.probe, jitter=jitter)


def _limits(endpoint: Endpoint | None, live_share: float) -> dict[str, Limit]:
    if endpoint is None:
        return {}
    names = {"requests": "requests_per_minute", "tokens": "tokens_per_minute"}
    given = {kind: endpoint.options.get(name) for kind, name in names.items()}
    return {
        kind: Limit(float(value), 1 - live_share, kind == "tokens")
        for kind, value in given.items()
        if value is not None
    }


def _spend(state: State, limits: dict[str, Limit], amounts: dict[str, float], *, live: bool) -> State:
    spent = {
        kind: rate_limit.spend(getattr(state, kind), limit, state.now, amounts[kind], live=live)
        for kind, limit in limits.items()
        if amounts[kind]
    }
    return replace(state, **spent)


def _where(model: Model) -> str:
    return f"endpoint {model.endpoint.name}" if model.endpoint is not None else f"model {model.name}"


def _with_lock(model: Model, body: Callable[[], T]) -> T:
    if model.endpoint is None:
        return state_lock.with_lock("model", model.id, _where(model), body)
    return state_lock.with_lock("endpoint", model.endpoint.id, _where(model), body)


def _change(model: Model, change: Callable[[State], State]) -> None:
    def run() -> None:
        state = _read(model)
        _write(model, state, change(state))

    _with_lock(model, run)


def _read(model: Model) -> State:
    query = SQL.read_model if model.endpoint is None else SQL.read_both
    row = db.one(query.on(model=str(model.id), endpoint=str(model.endpoint.id if model.endpoint else 0)))
    assert row is not None
    held = Breaker(row["model_failures"] - 1, row["model_rests_until"])
    if model.endpoint is None:
        return State(row["now"], held)
    return State(
        row["now"],
        held,
        Breaker(row["failures"] - 1, row["rests_until"]),
        Bucket(row["requests"], row["backfill_requests"]),
        Bucket(row["tokens"], row["backfill_tokens"]),
        capacity_rules.read(row["text_micros"] - 1, row["sizes"] - 1, row["now"]),
        row["flying"] - 1,
    )


def _write(model: Model, old: State, new: State) -> None:
    _log_transition({"model": model.name}, breaker.MODEL, old.model, new.model)
    if model.endpoint is not None:
        _log_transition({"endpoint": model.endpoint.name}, breaker.ENDPOINT, old.endpoint, new.endpoint)
    if new.model != old.model:
        query = SQL.write_model.on(model=str(model.id))
        db.run(query, new.model.failures + 1, max(1, new.model.open_until))
    if model.endpoint is None:
        return
    if new.capacity != old.capacity:
        query = SQL.write_capacity.on(model=str(model.id))
        db.run(query, new.capacity.text + 1, new.capacity.sizes + 1)
    if new.in_flight != old.in_flight:
        db.run(SQL.write_flying.on(endpoint=str(model.endpoint.id)), new.in_flight + 1)
    if replace(new, model=old.model, capacity=old.capacity, in_flight=old.in_flight) == old:
        return
    db.run(
        SQL.write_endpoint.on(endpoint=str(model.endpoint.id)),
        new.endpoint.failures + 1,
        max(1, new.endpoint.open_until),
        *(max(1, full) for b in (new.requests, new.tokens) for full in (b.full_at, b.share_full_at)),
    )


def _log_transition(whose: dict[str, str], policy: breaker.Policy, old: Breaker, new: Breaker) -> None:
    """Write down that a breaker opened or closed; that a probe failed is nothing new."""
    was_open, is_open = old.failures >= policy.threshold, new.failures >= policy.threshold
    if is_open and not was_open:
        until = moment(new.open_until)
        event_log.warn("breaker_opened", **whose, failures=new.failures, rests_until=until)
    elif was_open and not is_open:
        event_log.info("breaker_closed", **whose)
