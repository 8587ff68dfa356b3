"""Drains and workers of all kinds: one more kind is one more entry in KINDS."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from tests.fixtures import external_compute
from tests.fixtures.pipelines.endpoints import rest_over
from tests.fixtures.worker_processes import SLEEP, heard, listen
from tests.scenarios.chaos.sources import PIPELINES

Connection = psycopg.Connection[Any]
NAMES = [one.name for one in PIPELINES]


class Context:
    """What a worker knows: chance, whether it is time to stop, and whether it may cost texts sent twice (``harsh``)."""

    def __init__(self, seed: str, stop: threading.Event, *, harsh: bool) -> None:
        self.chance = random.Random(seed)
        self.stop = stop
        self.harsh = harsh

    def pause(self, most: float) -> None:
        """Wait for a random time."""
        self.stop.wait(self.chance.random() * most)


def _drain(db: Connection, context: Context) -> str | None:
    db.execute("SELECT embed_drain()")
    context.pause(0.2)
    return None


def _small_drain(db: Connection, context: Context) -> str | None:
    most = context.chance.randint(1, 9)
    db.execute("SELECT embed_drain(%s, max_rows => %s, max_runtime => '2 s')", (context.chance.choice(NAMES), most))
    return None


def _work(db: Connection, context: Context) -> str | None:
    db.execute("CALL embed_work(until_empty => true, max_runtime => '3 s')")
    context.pause(0.1)
    return None


def _long_work(db: Connection, context: Context) -> str | None:
    named = context.chance.choice([None, *NAMES])
    db.execute("CALL embed_work(%s, max_runtime => '2 s')", (named,))
    return None


def _scheduled_work(db: Connection, context: Context) -> str | None:
    """As pg_cron runs it: for longer than the database lets a statement take."""
    db.execute("CALL embed_work(max_runtime => '8 s')")
    return None


def _listen(db: Connection, context: Context) -> str | None:
    """What evergreen worker does, for a while: it works, sleeps and is woken."""
    listen(db)
    for _ in range(10):
        db.execute("CALL embed_work(until_idle => true, max_runtime => '2 s')")
        ((asleep, seconds),) = db.execute(SLEEP).fetchall()
        if context.stop.is_set():
            break
        if asleep:
            heard(db, timeout=seconds, enough=1)
        else:
            context.stop.wait(seconds)
    db.execute("UNLISTEN *")
    return None


_DEAR = """
DO LANGUAGE plpython3u $$
import sys
if "evergreen" in sys.modules:
    from evergreen.queue import scan_start
    scan_start._CHEAP, scan_start._CHEAP_ROW = -1, 0
$$
"""


def _work_on_news(db: Connection, context: Context) -> str | None:
    """A worker that looks at the queues from their start now and then only, as it does while that is dear."""
    db.execute(_DEAR)
    db.execute("CALL embed_work(max_runtime => '3 s')")
    return None


def _open_drain(db: Connection, context: Context) -> str | None:
    """A drain that stays open for a while."""
    db.execute("BEGIN")
    db.execute("SELECT embed_drain(max_rows => %s)", (context.chance.choice([3, 30, 1000]),))
    context.pause(1.5)
    undone = context.harsh and context.chance.random() < 0.2
    db.execute("ROLLBACK" if undone else "COMMIT")
    context.pause(0.5)
    return "rolled back" if undone else None


def _verify(db: Connection, context: Context) -> str | None:
    """A repair, now and then in a transaction that stays open for a while."""
    stays_open = context.chance.random() < 0.2
    if stays_open:
        db.execute("BEGIN")
    db.execute("SELECT embed_verify(%s, repair => true)", (context.chance.choice(NAMES),))
    context.pause(0.5)
    if stays_open:
        db.execute("COMMIT")
    return None


def _pause(db: Connection, context: Context) -> str | None:
    name = context.chance.choice(NAMES)
    db.execute("SELECT embed_pause(%s)", (name,))
    context.pause(1)
    db.execute("SELECT embed_resume(%s)", (name,))
    context.pause(3)
    return None


def _touch(db: Connection, context: Context) -> str | None:
    db.execute("SELECT embed_touch('plain', %s, '[1]')", (str(context.chance.randrange(40)),))
    db.execute("SELECT embed_touch('parts', '[\"a\", 3]')")
    db.execute("SELECT embed_retry(%s)", (context.chance.choice(NAMES),))
    context.pause(1)
    return None


def _outside(db: Connection, context: Context) -> str | None:
    """Compute outside: slow, in parts, in any order; now and then it gives back, fails, or is never heard of again."""
    name, most = context.chance.choice(NAMES), context.chance.randint(1, 40)
    texts = external_compute.claim(db, most, context.chance.choice(["0.3 s", "2 s"]), pipeline=name)
    context.pause(0.6)
    if not texts:
        return "outside, idle"
    context.chance.shuffle(texts)
    fate, middle = context.chance.random(), context.chance.randrange(len(texts) + 1)
    for part in (texts[:middle], texts[middle:]):
        if part and fate < 0.8:
            dimensions = 16 if part[0].model == "wide" else 8
            submit = partial(external_compute.submit, db, part, pipeline=name, dimensions=dimensions)
            if not _submitted(context, submit):
                _retrying(context, partial(external_compute.release, db, texts, pipeline=name))
                return "outside, model changed"
        elif part and fate < 0.9:
            why = context.chance.choice([None, "out of memory"])
            _retrying(context, partial(external_compute.release, db, part, why, pipeline=name))
        context.pause(0.2)
    return None if fate < 0.9 else "outside, died"


def _submitted(context: Context, submit: Callable[[], object]) -> bool:
    """Submit; return False where the model changed since the claim."""
    try:
        _retrying(context, submit)
    except psycopg.errors.ObjectNotInPrerequisiteState as refused:
        if "changed since claim" not in str(refused):
            raise
        return False
    return True


def _retrying(context: Context, call: Callable[[], object]) -> None:
    """As the HINT says: retry when the session that changes the generation, or was stopped doing it, has ended."""
    while not context.stop.is_set():
        with suppress(psycopg.errors.LockNotAvailable):
            call()
            return
        context.pause(0.2)


def _backfill(db: Connection, context: Context) -> str | None:
    """Start a backfill of the whole table, often during the previous one."""
    db.execute("SELECT embed_backfill(%s)", (context.chance.choice(NAMES),))
    context.pause(1.5)
    return None


# The models of eight dimensions give the same vectors, so what a row must show does not depend on whose turn it is.
CHANGES = (
    *(f"SELECT embed_build('shown', model => '{model}')" for model in ("loop", "other")),
    "SELECT embed_promote('shown')",
    "SELECT embed_rollback('shown')",
    "SELECT embed_retire('shown')",
)


def _change(db: Connection, context: Context) -> str | None:
    """Change the model of a pipeline: refused below the gate, where there is nothing to promote, and beside drains."""
    for change in CHANGES:
        try:
            db.execute(change)
        except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.LockNotAvailable):
            context.pause(0.3)
        else:
            context.pause(1.5)
    return None


def _time(db: Connection, context: Context) -> str | None:
    """Let no endpoint rest for long; claims made from now on hold for long, or for so short that some run out."""
    rest_over(db)
    if context.harsh:
        db.execute("SELECT embed_setting('lease', %s)", (context.chance.choice(["1 s", "5 minutes"]),))
    context.pause(0.6)
    return None


KINDS: dict[str, Callable[[Connection, Context], str | None]] = {
    "drain": _drain,
    "small drain": _small_drain,
    "work": _work,
    "more work": _work,
    "long work": _long_work,
    "scheduled work": _scheduled_work,
    "listen": _listen,
    "more listen": _listen,
    "work on news": _work_on_news,
    "open drain": _open_drain,
    "verify": _verify,
    "outside": _outside,
    "more outside": _outside,
    "pause": _pause,
    "touch": _touch,
    "backfill": _backfill,
    "change": _change,
    "time": _time,
}
# A TRUNCATE of the source that takes its time is not queued behind: a reader of the source fails and is called again.
MAY_TIME_OUT = {"verify"}


class Worker:
    """One kind of worker in a thread; thrown out, it comes back."""

    def __init__(self, connect: Callable[[str], Connection], kind: str, seed: str, *, harsh: bool) -> None:
        self.done: Counter[str] = Counter()
        self.errors: list[psycopg.Error] = []
        self.pids: set[int] = set()
        self.kind = kind
        self._stop = threading.Event()
        self._context = Context(f"{seed} {kind}", self._stop, harsh=harsh)
        self._connect = lambda: connect(f"worker {kind}")
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Tell it to come to the end of its call."""
        self._stop.set()

    def stop(self) -> None:
        """Wait until it has."""
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), f"worker {self.kind} hangs"

    def _live(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect() as session:
                    self.pids.add(session.info.backend_pid)
                    self._loop(session)
            except psycopg.OperationalError:  # there is no server just now, or it threw us out
                self._stop.wait(0.05)

    def _loop(self, session: Connection) -> None:
        while not self._stop.is_set():
            try:
                note = KINDS[self.kind](session, self._context)
                self.done[note or self.kind] += 1
            except psycopg.Error as error:
                if session.closed:
                    raise
                self.errors.append(error)
                if session.info.transaction_status != TransactionStatus.IDLE:
                    session.execute("ROLLBACK")
