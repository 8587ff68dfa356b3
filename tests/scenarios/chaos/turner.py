"""A provider's models that turn into others, and back when the watch has noticed."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from evergreen.embedding.watch.texts import TEXTS
from tests.fixtures.providers.faults import Reply
from tests.fixtures.providers.loopback import LoopbackProvider, vector

Connection = psycopg.Connection[Any]

MODELS = {"loop": 8, "wide": 16}  # with their dimensions
_LONGEST = 3.0  # seconds between two tries to turn
# What agreed with no revision is stored as revision 0 until the next look.
_LAST_LOOK = """
SELECT r.vector, extract(epoch FROM w.watched_at)::float8
FROM embed.model m
JOIN embed.model_watch w ON w.model = m.id
JOIN embed.model_reference r ON r.model = m.id AND r.revision IN (0, w.revision) AND r.text_no = 0
WHERE m.name = %s ORDER BY r.revision LIMIT 1
"""
# As if time passed: a look is due again 51 s after a session took it that died.
_LOOK_AGAIN = """
UPDATE embed.model_watch SET next_at = clock_timestamp()
WHERE next_at BETWEEN clock_timestamp() + interval '1 s' AND clock_timestamp() + interval '40 s'
"""


class Turner:
    """Changes what is served until it is stopped.

    A turn stays until looks at all models that saw it are written down: nothing can tell of a shorter one.
    """

    def __init__(self, provider: LoopbackProvider, connect: Callable[[str], Connection], seed: str) -> None:
        self.turns = 0
        self._chance = random.Random(f"{seed} turner")
        self._connect = lambda: connect("turner")
        self._turned_at = 0.0
        self._is_other = threading.Event()
        self._done = threading.Event()
        provider.fail(self._answer)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _answer(self, reply: Reply) -> None:
        if self._is_other.is_set():
            reply.items = [item[::-1] if isinstance(item, list) else item for item in reply.items]

    def _run(self) -> None:
        while not self._done.wait(self._chance.uniform(0.5, _LONGEST)):
            with suppress(psycopg.OperationalError):
                self._turn()

    def _turn(self) -> None:
        if not self._is_other.is_set():
            self._turned_at = time.time()
            self._is_other.set()
        elif self.is_noticed():
            self.turns += 1
            self._is_other.clear()

    def is_noticed(self) -> bool:
        """Whether the last look at each model saw the other one, as far as one is served."""
        if not self._is_other.is_set():
            return True
        with self._connect() as db:
            db.execute(_LOOK_AGAIN)
            return all(self._saw_other(db, model, dimensions) for model, dimensions in MODELS.items())

    def _saw_other(self, db: Connection, model: str, dimensions: int) -> bool:
        row = db.execute(_LAST_LOOK, (model,)).fetchone()
        if row is None or row[1] is None or row[1] < self._turned_at:
            return False
        return row[0] == pytest.approx(vector(TEXTS[0], dimensions)[::-1], abs=1e-5)

    def stop(self) -> None:
        """Turn no more."""
        self._done.set()
        self._thread.join()

    def return_to_normal(self) -> None:
        """Serve the models of before for good."""
        self._is_other.clear()
