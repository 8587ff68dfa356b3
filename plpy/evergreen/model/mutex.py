"""Hold what sessions share for an instant: a lock on a private row, always tried and never waited for.

It is taken in a subtransaction that is undone: the lock goes with it however the body ends. A session's own lock would
outlive a cancel that comes at the wrong moment (seen: 4 of 257), and stop all others. What setval() did stays. An
advisory lock cost no transaction id, but any role could sit on it and stop every pipeline.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from evergreen import db
from evergreen.errors import RetryableError
from evergreen.queries import load

SQL = load(__file__)
T = TypeVar("T")

_PATIENCE = 0.25  # seconds; whoever has it needs less than a millisecond


def held(owner: str, number: int, name: str, body: Callable[[], T]) -> T:
    """Run body, which writes nothing but sequences, under a lock; raises RetryableError when somebody sits on that."""
    until = time.monotonic() + _PATIENCE
    while True:
        done = db.released(lambda: [body()] if db.value(SQL.lock, owner, number) else [])
        if done:
            return done[0]
        if time.monotonic() > until:
            raise RetryableError(f"{name}: its state is held by another session")
        time.sleep(0.001)  # waiting for it in SQL would be waiting with a snapshot
        db.check_interrupts()
