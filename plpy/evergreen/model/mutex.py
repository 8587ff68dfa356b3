"""Hold what sessions share for an instant: a session advisory lock, always tried and never waited for."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from evergreen import db
from evergreen.errors import RetryableError
from evergreen.queries import load

SQL = load(__file__)

ENDPOINT, MODEL, BUDGET = 1163285064, 1163285065, 1163285066  # classes of advisory locks
_PATIENCE = 2.0  # seconds; whoever has it needs less than a millisecond


@contextmanager
def held(kind: int, number: int, name: str) -> Generator[None]:
    """Hold a lock while this lasts; raises RetryableError when another session sits on it."""
    until = time.monotonic() + _PATIENCE
    while not db.value(SQL.lock, kind, number):
        if time.monotonic() > until:
            raise RetryableError(f"{name}: its state is held by another session")
        time.sleep(0.001)  # pg_advisory_lock would wait with a snapshot, and queue behind whoever sits on it
        db.check_interrupts()
    try:
        yield
    finally:
        db.value(SQL.unlock, kind, number)
