"""The limits that all sessions of a database share: asks for permits, and notes what became of each request."""

import random
from collections.abc import Callable
from dataclasses import replace

from evergreen.core.embedding import Budget, EmbeddingTask
from evergreen.core.job import Lane
from evergreen.core.pipeline import Model
from evergreen.embedding.limits import breaker, budget, endpoint_state, permits
from evergreen.embedding.limits import capacity as capacity_rules
from evergreen.embedding.limits.admission import Permit
from evergreen.embedding.limits.breaker import Breaker
from evergreen.embedding.limits.capacity import Capacity
from evergreen.embedding.limits.endpoint_state import State

_NO_PAUSE = 1.0  # seconds: repeated shorter pauses are extended
Failed = Callable[..., Breaker]


class SharedLimits:
    """Asks and tells what all workers know."""

    def wait(self, model: Model, spender: Budget | None) -> Permit:
        """Look, without a lock."""
        state = endpoint_state.read(model)
        permit = permits.rest(model, state) or permits.budget_wait(spender)
        permit = permit or permits.rate_wait(model, state, endpoint_state.rate_limits(model.endpoint, 1.0), live=True)
        return replace(permit, capacity=state.capacity)

    def acquire(self, task: EmbeddingTask, estimates: list[int]) -> Permit:
        """Permit a request if breakers, rate limits and budget allow it; see ``permits.acquire``."""
        return permits.acquire(task, estimates)

    def succeeded(self, task: EmbeddingTask, permit: Permit, estimated: int, billed: int | None, pause: float) -> None:
        """Close what was open, and settle what was only estimated."""
        difference = 0 if billed is None else billed - estimated
        budget.settle(task.budget, task.model, difference)
        found = endpoint_state.rate_limits(task.model.endpoint, task.live_share)
        limits = {kind: limit for kind, limit in found.items() if kind == "tokens"}
        if not (permit.probe or permit.endpoint_failures or permit.model_failures or pause or (difference and limits)):
            return

        def change(state: State) -> State:
            new = endpoint_state.spend(state, limits, {"tokens": float(difference)}, live=task.lane == Lane.LIVE)
            if permit.probe or permit.endpoint_failures:
                new = replace(new, endpoint=breaker.CLOSED)
            if permit.probe or permit.model_failures:
                new = replace(new, model=breaker.CLOSED)
            if pause:
                new = replace(new, endpoint=breaker.paused(new.endpoint, state.now, pause, probe=False))
            return new

        endpoint_state.change(task.model, change)

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

        endpoint_state.change(task.model, change)

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

        endpoint_state.change(task.model, change)

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

        endpoint_state.change(task.model, change)

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
        endpoint_state.change(model, change)

    def too_large(self, task: EmbeddingTask, size: int, good: int) -> None:
        """Send no more than what passed, until it has grown again."""

        def change(state: State) -> State:
            return replace(state, capacity=capacity_rules.outgrown(state.capacity, size, good, state.now))

        endpoint_state.change(task.model, change)


def try_once(model: Model) -> str | None:
    """Let one request through to a model or endpoint that rests; return why it rests, None where it does not.

    Raises RetryableError when another session has the shared state locked.
    """
    rest = permits.rest(model, endpoint_state.read(model))
    if rest is not None:
        endpoint_state.change(
            model,
            lambda state: replace(
                state,
                model=breaker.try_once(state.model, state.now),
                endpoint=breaker.try_once(state.endpoint, state.now),
            ),
        )
    return rest.reason if rest is not None else None


def _is_slower(task: EmbeddingTask, permit: Permit, texts: int, seconds: float | None) -> bool:
    """Return whether a server that was fast has become slow: anything else is not worth the lock."""
    limit, limits = task.model.answer_timeout, task.provider.limits(task.model)
    found = permit.capacity
    if seconds is not None:
        found = capacity_rules.measured(found, limit, seconds, texts, permit.ahead)
    return capacity_rules.is_slow(found, limit, limits.inputs * limits.in_flight)


def _end_probe_hold(held: Breaker, permit: Permit) -> Breaker:
    """End the hold that a probe put on its model, whatever came of it: the next request is a probe again."""
    return replace(held, open_until=0) if permit.probe and permit.model_failures == held.failures else held


def _failed(
    held: Breaker, policy: breaker.Policy, state: State, seen: int, permit: Permit, how: Failed = breaker.failed
) -> Breaker:
    # Jitter keeps workers from coming back in step.
    jitter = random.uniform(0.75, 1.25)  # noqa: S311 - not for secrets
    return how(held, policy, state.now, seen=seen, probe=permit.probe, jitter=jitter)
