"""Sequences that hold the state which sessions share of an endpoint, model or pipeline, and the lock on it."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from evergreen import db
from evergreen.core.errors import RetryableError, UserError
from evergreen.core.pipeline import Model
from evergreen.db import privileges, relations
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load

SQL = load(__package__)
T = TypeVar("T")
ENDPOINT = ("failures", "rests_until", "requests", "backfill_requests", "tokens", "backfill_tokens", "in_flight")
MODEL = ("failures", "rests_until", "text_micros", "sizes")
BUDGET = ("tokens", "cost", "in_flight")
_FREE = ("wordllama", "hash")
_NAMES = {"endpoint": ENDPOINT, "model": MODEL, "pipeline": BUDGET}
_LOCK_TIMEOUT_S = 0.25  # the holder needs less than a millisecond


def create(owner: str, number: int, names: tuple[str, ...]) -> None:
    """Make the sequences of a row of embed.endpoint, embed.model or embed.pipeline, if they are not there."""
    for name in names:
        if relations.oid_of(f"embed.{owner}_{number}_{name}") is None:
            for statement in (SQL.create, SQL.adopt):
                db.ddl(statement.with_identifiers(owner=owner, number=str(number), name=name))
            privileges.revoke_all("SEQUENCE", f"embed.{owner}_{number}_{name}")
    db.run(SQL.insert_lock, owner, number)


def create_budget(pipeline_id: int, options: dict[str, Any], model: Model) -> None:
    """Make those of a pipeline, if it has a budget; raises UserError 22023 when its model has no price."""
    if "daily_cost" in options and model.price is None and model.provider not in _FREE:
        raise UserError(
            f'option "daily_cost" needs a price, and model "{model.name}" has none',
            hint="Add the model with options => '{\"price\": …}' (of a million tokens), or use daily_tokens.",
        )
    if {"daily_tokens", "daily_cost"} & options.keys():
        create("pipeline", pipeline_id, BUDGET)


def reset(endpoint: int) -> None:
    """Forget the state of an endpoint and its models: its settings have changed."""
    for row in db.rows(SQL.breakers, endpoint):
        for name in _NAMES[row["owner"]]:
            db.value(SQL.reset.with_identifiers(owner=row["owner"], number=str(row["number"]), name=name))


def reset_model(model: int) -> None:
    """Forget that a model failed: it is set up otherwise now."""
    for name in MODEL:
        if relations.oid_of(f"embed.model_{model}_{name}") is not None:
            db.value(SQL.reset.with_identifiers(owner="model", number=str(model), name=name))


def create_all() -> None:
    """Make those that are not there, as after a restore: a dump carries none, what they hold is of the moment."""
    for row in db.rows(SQL.missing, *(list(names) for names in _NAMES.values())):
        create(row["owner"], row["number"], (row["name"],))


def drop(owner: str, number: int, names: tuple[str, ...]) -> None:
    """Drop them; those that an open drain has used stay, without an owner."""
    for name in names:
        if relations.oid_of(f"embed.{owner}_{number}_{name}") is not None:
            with_lock_timeout(partial(_drop, owner, number, name), "50ms")
    with_lock_timeout(lambda: db.run(SQL.delete_lock, owner, number), "50ms")


def _drop(owner: str, number: int, name: str) -> None:
    for statement in (SQL.release, SQL.drop):
        db.ddl(statement.with_identifiers(owner=owner, number=str(number), name=name))


def with_lock(owner: str, number: int, name: str, body: Callable[[], T]) -> T:
    """Run body, which writes only sequences, under a lock; raises RetryableError when another session has it."""
    until = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        done = db.in_discarded_subtransaction(lambda: [body()] if db.value(SQL.lock, owner, number) else [])
        if done:
            return done[0]
        if time.monotonic() > until:
            raise RetryableError(f"{name}: its state is held by another session")
        time.sleep(0.001)  # waiting for it in SQL would be waiting with a snapshot
        db.check_interrupts()
