"""What all sessions know about a model and its endpoint: read, changed under a lock and written.

The state is in sequences, so that a change is visible to all sessions at once, survives a rollback and holds no row
lock that an open drain's transaction could keep. Runs SQL with the extension's rights.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint, Model
from evergreen.core.text import moment
from evergreen.db import event_log
from evergreen.db.queries import load
from evergreen.embedding.limits import breaker, rate_limit
from evergreen.embedding.limits import capacity as capacity_rules
from evergreen.embedding.limits import state as state_locks
from evergreen.embedding.limits.admission import UNKNOWN
from evergreen.embedding.limits.breaker import Breaker
from evergreen.embedding.limits.capacity import Capacity
from evergreen.embedding.limits.rate_limit import Bucket, Limit

SQL = load(__package__)
T = TypeVar("T")
_FULL = Bucket(0, 0)


@frozen
class State:
    """What is known at one moment (microseconds since 1970) of a model and, where it has one, its endpoint."""

    now: int
    model: Breaker
    endpoint: Breaker = breaker.CLOSED
    requests: Bucket = _FULL
    tokens: Bucket = _FULL
    capacity: Capacity = UNKNOWN
    in_flight: int = 0  # what all have under way at the endpoint


def rate_limits(endpoint: Endpoint | None, live_share: float) -> dict[str, Limit]:
    """Return an endpoint's limits of requests and tokens a minute, where it has them."""
    if endpoint is None:
        return {}
    names = {"requests": "requests_per_minute", "tokens": "tokens_per_minute"}
    given = {kind: endpoint.options.get(name) for kind, name in names.items()}
    return {
        kind: Limit(float(value), 1 - live_share, kind == "tokens")
        for kind, value in given.items()
        if value is not None
    }


def spend(state: State, limits: dict[str, Limit], amounts: dict[str, float], *, live: bool) -> State:
    """Take amounts of requests and tokens out of the limits; a negative amount returns them."""
    spent = {
        kind: rate_limit.spend(getattr(state, kind), limit, state.now, amounts[kind], live=live)
        for kind, limit in limits.items()
        if amounts[kind]
    }
    return replace(state, **spent)


def where(model: Model) -> str:
    """Name what a model's requests share: its endpoint, else the model itself."""
    return f"endpoint {model.endpoint.name}" if model.endpoint is not None else f"model {model.name}"


def with_lock(model: Model, body: Callable[[], T]) -> T:
    """Run body while no other session changes the state; raises RetryableError when one has it locked."""
    if model.endpoint is None:
        return state_locks.with_lock("model", model.id, where(model), body)
    return state_locks.with_lock("endpoint", model.endpoint.id, where(model), body)


def change(model: Model, body: Callable[[State], State]) -> None:
    """Replace the state by what the body makes of it; raises RetryableError when another session has it locked."""

    def run() -> None:
        state = read(model)
        write(model, state, body(state))

    with_lock(model, run)


def read(model: Model) -> State:
    """Return the state as it is now, without a lock."""
    query = SQL.read_model if model.endpoint is None else SQL.read_both
    row = db.one(query.with_identifiers(model=str(model.id), endpoint=str(model.endpoint.id if model.endpoint else 0)))
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
        row["in_flight"] - 1,
    )


def write(model: Model, old: State, new: State) -> None:
    """Write what differs from the old state, and log a breaker that opened or closed."""
    _log_transition({"model": model.name}, breaker.MODEL, old.model, new.model)
    if model.endpoint is not None:
        _log_transition({"endpoint": model.endpoint.name}, breaker.ENDPOINT, old.endpoint, new.endpoint)
    if new.model != old.model:
        query = SQL.write_model.with_identifiers(model=str(model.id))
        db.run(query, new.model.failures + 1, max(1, new.model.open_until))
    if model.endpoint is None:
        return
    if new.capacity != old.capacity:
        query = SQL.write_capacity.with_identifiers(model=str(model.id))
        db.run(query, new.capacity.text + 1, new.capacity.sizes + 1)
    if new.in_flight != old.in_flight:
        db.run(SQL.write_in_flight.with_identifiers(endpoint=str(model.endpoint.id)), new.in_flight + 1)
    if replace(new, model=old.model, capacity=old.capacity, in_flight=old.in_flight) == old:
        return
    db.run(
        SQL.write_endpoint.with_identifiers(endpoint=str(model.endpoint.id)),
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
