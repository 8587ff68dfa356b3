"""The reaper: cancels, terminates, stops, SIGKILLs and restarts, in an order drawn from the seed."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg

from evergreen_host.cluster import Cluster
from tests.fixtures.waiting import wait_until

Connection = psycopg.Connection[Any]

_VICTIMS = """
SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s || ' %%' AND datname = current_database()
ORDER BY state = 'active' DESC, application_name
"""
DECK = {
    "worker cancelled": 3, "worker terminated": 4, "writer cancelled": 1, "writer terminated": 1,
    "worker stopped": 2, "worker SIGKILLed": 1, "server restarted": 1,
}  # fmt: skip


LONGEST_STOP = 2.0


class Reaper:
    """Strikes every now and then until it is stopped."""

    def __init__(self, cluster: Cluster, connect: Callable[[str], Connection], seed: str, *, every: float) -> None:
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._cluster, self._every = cluster, every
        self._connect = lambda: connect("reaper")
        self._chance = random.Random(f"{seed} reaper")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Come to rest, with the server running."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the reaper hangs"
        if self.failure is not None:
            raise self.failure

    def _live(self) -> None:
        try:
            for what in self._order():
                if self._stop.wait(self._every * (0.5 + self._chance.random())):
                    return
                if self._strike(what):
                    self.done[what] += 1
        except Exception as error:  # noqa: BLE001 - shown by stop()
            self.failure = error

    def _order(self) -> Iterator[str]:
        """Each kind as often as the deck has it, in another order each time."""
        while True:
            deck = [kind for kind, count in DECK.items() for _ in range(count)]
            self._chance.shuffle(deck)
            yield from deck

    def _strike(self, what: str) -> bool:
        if what == "server restarted":
            self._cluster.restart("immediate")
            return True
        with suppress(psycopg.OperationalError), self._connect() as session:
            who, deed = what.split()
            found = [row[0] for row in session.execute(_VICTIMS, (who,)).fetchall()]
            victim = self._chance.choice(found[: max(1, len(found) // 2 + 1)]) if found else None
            if victim is None:
                return False
            self._do(deed, victim, session)
            return True
        return False

    def _do(self, deed: str, victim: int, session: Connection) -> None:
        """Do it to a backend; it may have ended meanwhile."""
        if deed in {"cancelled", "terminated"}:
            call = "pg_cancel_backend" if deed == "cancelled" else "pg_terminate_backend"
            session.execute(f"SELECT {call}(%s)", (victim,))
            return
        with suppress(ProcessLookupError):
            if deed == "SIGKILLed":
                os.kill(victim, signal.SIGKILL)
                self._wait_for_the_crash(session)
            else:
                os.kill(victim, signal.SIGSTOP)  # as a machine that does not answer; its leases run out
                self._stop.wait(LONGEST_STOP * (0.6 + 0.4 * self._chance.random()))
                os.kill(victim, signal.SIGCONT)

    def _wait_for_the_crash(self, witness: Connection) -> None:
        """The postmaster ends all sessions and restarts."""

        def thrown_out() -> bool:
            try:
                witness.execute("SELECT 1")
            except psycopg.OperationalError:
                return True
            return False

        def is_back() -> bool:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(thrown_out, timeout=30, what="the server's crash")
        wait_until(is_back, timeout=60, what="the server")
