"""Decides whether a request may be sent now: breakers, rate limits, the daily budget, and what its server can take."""

from dataclasses import replace

from evergreen.core.embedding import Budget, EmbeddingTask
from evergreen.core.job import Lane
from evergreen.core.pipeline import Model
from evergreen.embedding.limits import breaker, budget, endpoint_state, rate_limit
from evergreen.embedding.limits import capacity as capacity_rules
from evergreen.embedding.limits.admission import Permit
from evergreen.embedding.limits.endpoint_state import State
from evergreen.embedding.limits.rate_limit import Limit

_PROBE_EXTRA_S = 5.0
_BUDGET = "the pipeline's daily budget is spent; days are UTC"
_UNSETTLED = "what is left of the pipeline's daily budget is reserved for requests under way"
_LOOK_SOON = 0.05  # seconds until a slow server may have room
_LOOK_AGAIN = 0.02  # seconds until it may be known what a request under way has cost


def acquire(task: EmbeddingTask, estimates: list[int]) -> Permit:
    """Permit a request if model and endpoint work and limits and budget have room; take its share of them.

    Raises RejectedError for a text that no day's budget can pay for, RetryableError when another session has the
    shared state locked.
    """
    return _without_lock(task, estimates) or endpoint_state.with_lock(task.model, lambda: _acquire(task, estimates))


def _without_lock(task: EmbeddingTask, estimates: list[int]) -> Permit | None:
    """Permit a request that no limit or budget counts without the lock, which costs a transaction id."""
    if task.budget is not None or endpoint_state.rate_limits(task.model.endpoint, task.live_share):
        return None
    state = endpoint_state.read(task.model)
    if rest(task.model, state) or _is_probe(state):
        return None
    fits = _fitting(task, state, len(estimates))
    if fits.booked is not None and fits.granted:
        return None
    return replace(fits, endpoint_failures=state.endpoint.failures, model_failures=state.model.failures)


def _fitting(task: EmbeddingTask, state: State, texts: int) -> Permit:
    """Permit as many texts as the server can embed in time, by what was learned of it."""
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
        return Permit(_LOOK_SOON, reason=f"{endpoint_state.where(model)} has as much to do as it can in time")
    count = max(1, count)
    ahead = round(under_way / capacity_rules.a_text(found, limit))
    booked = (capacity_rules.work(found, limit, count), at)
    return Permit(texts=count, capacity=found, ahead=ahead, booked=booked)


def _acquire(task: EmbeddingTask, estimates: list[int]) -> Permit:
    model, live = task.model, task.lane == Lane.LIVE
    state = endpoint_state.read(model)
    limits = endpoint_state.rate_limits(model.endpoint, task.live_share)
    permit = rest(model, state) or rate_wait(model, state, limits, live=live)
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
        return budget_wait(task.budget) or Permit(wait=_PROBE_EXTRA_S, open=True, reason=_BUDGET, scope="budget")
    taken = {"requests": 1.0, "tokens": float(sum(estimates[:count]))}
    new = endpoint_state.spend(state, limits, taken, live=live)
    if fits.booked is not None:
        amount, at = fits.booked
        new = replace(new, in_flight=capacity_rules.book(state.in_flight, at, at, amount))
    endpoint_state.write(model, state, _hold_probe(new, model) if is_probe else new)
    seen = {"endpoint_failures": state.endpoint.failures, "model_failures": state.model.failures}
    return replace(fits, texts=count, probe=is_probe, **seen)


def rate_wait(model: Model, state: State, limits: dict[str, Limit], *, live: bool) -> Permit:
    """Return when the rate limits have room."""
    waits = (rate_limit.wait(getattr(state, kind), limit, state.now, live=live) for kind, limit in limits.items())
    return Permit(max(waits, default=0) / breaker.SECOND, reason=f"{endpoint_state.where(model)}: rate limit")


def rest(model: Model, state: State) -> Permit | None:
    """Return how long a model or its endpoint rests, if it does."""
    for what, name, policy in (
        (state.model, f"model {model.name}", breaker.MODEL),
        (state.endpoint, endpoint_state.where(model), breaker.ENDPOINT),
    ):
        if wait := breaker.wait(what, state.now):
            is_open = what.failures >= policy.threshold
            why = f"{what.failures} failures in a row" if what.failures else "it asked for a pause"
            return Permit(wait / breaker.SECOND, open=is_open, reason=f"{name} rests after {why}", scope="rest")
    return None


def budget_wait(spender: Budget | None) -> Permit | None:
    """Return how long a spent budget makes requests wait, if it is spent."""
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
