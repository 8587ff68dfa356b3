"""Load for the benchmarks of the queue: writers at a steady pace, workers whose steps are timed, sizes and lags."""

import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from tests.fixtures.waiting import Background, wait_until

Connection = psycopg.Connection[Any]

#: EVERGREEN_BENCH=full takes the sizes and times that the aims are stated for; the default is a tenth or so.
FULL = os.environ.get("EVERGREEN_BENCH") == "full"
QUEUE = ("change_log", "job", "lease", "in_flight", "change_log_state", "backfill_cursor")
_SIZE = "SELECT sum(pg_total_relation_size('embed.' || t))::bigint FROM unnest(%s::text[]) t"

_SEEN = "SELECT true FROM docs_embedding WHERE id = %s AND chunk = %s"

_TIMED = """
import functools, json, time, types, sys
from evergreen.queue import change_log, claims
spent = []
def timed(name, body):
    @functools.wraps(body)
    def measured(*args, **kwargs):
        started = time.monotonic()
        result = body(*args, **kwargs)
        rows = len(result.jobs) if name == 'claim' and result is not None else result if name == 'fold' else 0
        if rows:
            spent.append((name, time.time(), time.monotonic() - started, rows))
        return result
    return measured
claims.claim, change_log.coalesce = timed('claim', claims.claim), timed('fold', change_log.coalesce)
sys.modules['timing'] = types.SimpleNamespace(spent=spent)
"""
_TOLD = """
import json, timing
told = plpy.prepare("SELECT set_config('bench.spent', $1, false)", ['text'])
plpy.execute(told, [json.dumps(timing.spent)])
"""


def _inside(session: Connection, body: str) -> None:
    session.execute(sql.SQL("DO LANGUAGE plpython3u {}").format(sql.Literal(body)))


class TimedWorker:
    """A worker whose claims and folds of the log are timed inside its own backend, where they found anything."""

    def __init__(self, session: Connection) -> None:
        self.session = session
        session.execute("SELECT embed_setting('lease')")  # loads the library
        _inside(session, _TIMED)
        self._work: Background | None = None

    def start(self, seconds: float, *, until_empty: bool = False) -> None:
        """Work for so long."""
        call = "CALL embed_work(max_runtime => make_interval(secs => %s), until_empty => %s)"
        self._work = Background(self.session, call, (seconds, until_empty))

    def spent(self) -> list[tuple[str, float, float, int]]:
        """Wait for its end; return what was done, when (as time.time()), in how many seconds, rows."""
        assert self._work is not None
        self._work.result(3600)
        _inside(self.session, _TOLD)
        return json.loads(self.session.execute("SELECT current_setting('bench.spent')").fetchone()[0])


class Feed:
    """Updates the rows of table docs one after the other at a steady pace, each transaction a hundredth of a second."""

    def __init__(self, session: Connection, pace: int, rows: int) -> None:
        self.written = 0
        self._session, self._pace, self._rows = session, pace, rows
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._over.wait(0.01):
            due = int((time.monotonic() - started) * self._pace) - self.written
            first = self.written % self._rows
            self._session.execute(
                "UPDATE docs SET body = 'edit ' || %s || ' of ' || id WHERE id >= %s AND id < %s",
                (self.written, first, first + due),
            )
            self.written += due

    def stop(self) -> int:
        """Write no more; return how many rows were."""
        self._over.set()
        self._thread.join(60)
        return self.written


def make_docs(db: Connection, rows: int) -> None:
    """A table of short texts."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text NOT NULL) WITH (fillfactor = 50)")
    db.execute("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(0, %s) i", (rows - 1,))
    db.execute("VACUUM ANALYZE docs")


def queue_size(db: Connection) -> float:
    """Megabytes of the queue's tables with their indexes."""
    return db.execute(_SIZE, (list(QUEUE),)).fetchone()[0] / 1e6


def lags(writer: Connection, reader: Connection, ids: range, stop: Callable[[], bool] = lambda: False) -> list[float]:
    """Update rows one after the other; return the seconds from each commit until its text is in the view."""
    found: list[float] = []
    for number in ids:
        if stop():
            break
        text = f"live {number} {time.time()}"
        writer.execute("UPDATE docs SET body = %s WHERE id = %s", (text, number))
        started = time.monotonic()
        wait_until(lambda number=number, text=text: reader.execute(_SEEN, (number, text)).fetchone(), 120, "the text")
        found.append(time.monotonic() - started)
    return found


def p50(seconds: list[float]) -> float:
    """The median."""
    return statistics.median(seconds)


def p99(seconds: list[float]) -> float:
    """What one in a hundred exceeds."""
    return sorted(seconds)[len(seconds) * 99 // 100]
