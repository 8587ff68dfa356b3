"""Writers: sessions that live through their histories, whatever happens to their server."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psycopg

from tests.scenarios.chaos.histories import READ_COMMITTED, Step, Style, Transaction, history
from tests.scenarios.chaos.sources import KEYS

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Refused:
    """An error that a writer got."""

    state: str
    message: str
    detail: str
    transaction: Transaction

    def is_the_writers_own(self) -> bool:
        """Tell whether it could as well have come of the writers alone."""
        ops = self.transaction.ops
        if self.state == "23505":
            return bool(ops & {"insert", "key change"})
        if self.state == "40001":  # a row that moves to another partition is such an error at every level
            moved = any(step.table == "parts" for step in self.transaction.steps)
            return self.transaction.level not in {None, READ_COMMITTED} or moved
        return False


def _where(step: Step) -> str:
    return " AND ".join(f"{column} = %s" for column in KEYS[step.table])


def _columns(step: Step) -> str:
    return ", ".join(KEYS[step.table])


def _revert(session: Connection, step: Step) -> None:
    """From A to B and back to A."""
    where = _where(step)
    found = session.execute(f"SELECT body FROM {step.table} WHERE {where}", step.key).fetchone()
    for body in (step.text, found and found[0]):
        session.execute(f"UPDATE {step.table} SET body = %s WHERE {where}", (body, *step.key))


def _insert(session: Connection, step: Step, conflict: str = "") -> None:
    places = ", ".join(["%s"] * (len(step.key) + 2))
    session.execute(
        f"INSERT INTO {step.table} ({_columns(step)}, title, body) VALUES ({places}) {conflict}",
        (*step.key, "title", step.text),
    )


def _upsert(session: Connection, step: Step) -> None:
    _insert(session, step, f"ON CONFLICT ({_columns(step)}) DO UPDATE SET body = EXCLUDED.body")


def _set(assignment: str) -> Callable[[Connection, Step], None]:
    def save(session: Connection, step: Step) -> None:
        texts = (step.text,) * assignment.count("%s")
        session.execute(f"UPDATE {step.table} SET {assignment} WHERE {_where(step)}", (*texts, *step.key))

    return save


def _change_key(session: Connection, step: Step) -> None:
    assignment = ", ".join(f"{column} = %s" for column in KEYS[step.table])
    session.execute(f"UPDATE {step.table} SET {assignment} WHERE {_where(step)}", (*step.other, *step.key))


def _fill(session: Connection, step: Step) -> None:
    keys = "i" if step.table == "plain" else "t, i"
    tenants = "" if step.table == "plain" else "unnest('{a,b,c}'::text[]) t, "
    session.execute(
        f"INSERT INTO {step.table} ({_columns(step)}, title, body) SELECT {keys}, 'title', coalesce(%s, 'common ' || i)"
        f" FROM {tenants}generate_series(0, 13) i ORDER BY {keys} ON CONFLICT DO NOTHING",
        (step.text if step.text != "  " else None,),
    )


def _bulk(session: Connection, step: Step) -> None:
    """Many rows at once, locked in key order."""
    key = _columns(step)
    session.execute(
        f"WITH k AS (SELECT {key} FROM {step.table} WHERE id %% 3 = 0 ORDER BY {key} FOR UPDATE)"
        f" UPDATE {step.table} SET body = %s WHERE ({key}) IN (SELECT {key} FROM k)",
        (step.text,),
    )


OPS: dict[str, Callable[[Connection, Step], object]] = {
    "insert": _insert,
    "upsert": _upsert,
    "body": _set("body = %s"),
    "title": _set("title = left(%s, 9)"),
    "unwatched": _set("n = n + 1"),
    "no-op": _set("body = body, title = title"),
    "show": _set("shown = NOT shown"),
    "revert": _revert,
    "key change": _change_key,
    "delete": lambda session, step: session.execute(f"DELETE FROM {step.table} WHERE {_where(step)}", step.key),
    "truncate": lambda session, step: session.execute(f"TRUNCATE {step.table}"),
    "truncate a partition": lambda session, _: session.execute("TRUNCATE parts_a"),
    "fill": _fill,
    "bulk": _bulk,
}


class Writer:
    """One writer in a thread; ``transactions`` bounds its history, None: until it is stopped."""

    def __init__(
        self, connect: Callable[[str], Connection], seed: str, number: int, style: Style, transactions: int | None
    ) -> None:
        self.done: Counter[str] = Counter()
        self.refused: list[Refused] = []
        self.lost = 0
        self.seconds: list[float] = []
        self._connect = lambda: connect(f"writer {number}")
        self._history = islice(history(seed, number, style), transactions)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it end its transaction."""
        self._stop.set()
        self.join(60)

    def join(self, timeout: float) -> None:
        """Wait until it is done."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "a writer hangs"

    def _live(self) -> None:
        session: Connection | None = None
        for transaction in self._history:
            self._stop.wait(transaction.pause)
            while session is None or session.closed:
                if self._stop.is_set():
                    return
                with suppress(psycopg.OperationalError):
                    session = self._connect()
                self._stop.wait(0.05 if session is None else 0)
            if self._stop.is_set():
                break
            self._do(session, transaction)
        if session is not None:
            session.close()

    def _do(self, session: Connection, transaction: Transaction) -> None:
        try:
            if transaction.level is None:
                self._step(session, transaction.steps[0])
                return
            session.execute(f"BEGIN ISOLATION LEVEL {transaction.level}")
            for step in transaction.steps:
                self._under_savepoint(session, step)
                self._stop.wait(step.pause)
            session.execute("COMMIT" if transaction.commits else "ROLLBACK")
            self.done["transaction" if transaction.commits else "rollback"] += 1
        except psycopg.Error as error:
            if session.closed:
                self.lost += 1
                return
            diag = error.diag
            self.refused.append(
                Refused(error.sqlstate or "", str(diag.message_primary), diag.message_detail or "", transaction)
            )
            if transaction.level is not None:
                with suppress(psycopg.OperationalError):
                    session.execute("ROLLBACK")

    def _under_savepoint(self, session: Connection, step: Step) -> None:
        if step.savepoint is None:
            self._step(session, step)
            return
        session.execute("SAVEPOINT s")
        self._step(session, step)
        session.execute("RELEASE s" if step.savepoint == "released" else "ROLLBACK TO s")
        self.done[f"savepoint {step.savepoint}"] += 1

    def _step(self, session: Connection, step: Step) -> None:
        started = time.monotonic()
        OPS[step.op](session, step)
        self.seconds.append(time.monotonic() - started)
        self.done[step.op] += 1
