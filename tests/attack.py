"""What the attacks on spending have in common: random writers, teams of workers, and what must be left at the end."""

import os
import random
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psycopg
from documents import drain_once, source_texts
from provider import LoopbackProvider
from waiting import wait_until

Connection = psycopg.Connection[Any]

WORK = "CALL embed_work(until_empty => true)"
ADVISORY = "SELECT classid::bigint, objid::bigint, pid FROM pg_locks WHERE locktype = 'advisory'"


def seed_of(name: str) -> int:
    """A seed, printed so that a failure can be played again with ``SEED=…``."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"{name}: SEED={seed}")
    return seed


class Counting:
    """Counts how many requests a provider has at once."""

    def __init__(self, provider: LoopbackProvider, pause: float = 0.0) -> None:
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()
        self._wait = threading.Event()
        self._pause = pause
        self._handle = provider.handle
        provider.handle = self._counted  # type: ignore[method-assign]

    def _counted(self, call: Any) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if self._pause:
                self._wait.wait(self._pause)
            return self._handle(call)
        finally:
            with self._lock:
                self.now -= 1


class Team:
    """Sessions that repeat their statements until they are told to stop; who is thrown out comes back."""

    def __init__(
        self, connect: Callable[[], Connection], statements: Iterable[str], *, forgiving: bool = False
    ) -> None:
        self.errors: list[psycopg.Error] = []
        self.pids: dict[int, int] = {}
        self._connect = connect
        self._forgiving = forgiving
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number, statement), daemon=True)
            for number, statement in enumerate(statements)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int, statement: str) -> None:
        while not self._over.is_set():
            try:
                session = self._connect()
                self.pids[number] = session.info.backend_pid
                while not self._over.is_set():
                    session.execute(statement)
            except psycopg.Error as error:
                self.errors.append(error)
                if not self._forgiving:
                    return

    def stop(self) -> None:
        """Let each come to the end of its statement."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert self._forgiving or self.errors == []


class Writers:
    """Sessions that save rows at random: new texts, texts that stand elsewhere, reverts, and saves of nothing."""

    def __init__(self, connect: Callable[[], Connection], seed: int, *, sessions: int, saves: int, rows: int) -> None:
        self.written: set[str] = set()
        self.errors: list[psycopg.Error] = []
        self._rows = rows
        self._threads = [
            threading.Thread(target=self._save, args=(connect(), random.Random(f"{seed} {n}"), n, saves), daemon=True)
            for n in range(sessions)
        ]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert self.errors == []

    def _save(self, session: Connection, chance: random.Random, writer: int, saves: int) -> None:
        before: dict[int, str] = {}
        with suppress(psycopg.OperationalError):
            for number in range(saves):
                key = chance.randrange(self._rows)
                dice = chance.random()
                text = f"text {writer} {number}"
                if dice < 0.3:
                    text = f"text {chance.randrange(20)}"
                elif dice < 0.4 and key in before:
                    text = before[key]
                elif dice < 0.6:
                    session.execute("UPDATE docs SET body = body, n = n + 1 WHERE id = %s", (key,))
                    continue
                self.written.add(f"title\n\n{text}")
                row = session.execute("SELECT body FROM docs WHERE id = %s", (key,)).fetchone()
                if row is not None:
                    before[key] = row[0]
                session.execute(
                    "INSERT INTO docs VALUES (%s, 'title', %s) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body",
                    (key, text),
                )
                if dice > 0.97:
                    session.execute("DELETE FROM docs WHERE id = %s", (chance.randrange(self._rows),))


def make_docs(db: Connection, rows: int, model: str = "loop", options: str = "{}") -> set[str]:
    """Table and pipeline ``docs``; returns its texts, a third of which stand in several rows."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
    db.execute(
        "INSERT INTO docs SELECT i, 'title', 'text ' || CASE WHEN i %% 3 = 0 THEN i %% 20 ELSE i END"
        " FROM generate_series(0, %s) i",
        (rows - 1,),
    )
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => %s, options => %s)", (model, options)
    )
    return set(source_texts(db).values())


def finish(db: Connection) -> None:
    """Drain until nothing is pending."""
    wait_until(
        lambda: (
            not drain_once(db)
            and db.execute("SELECT count(*) FROM embed.job").fetchone() == (0,)
            and db.execute("SELECT count(*) FROM embed.change").fetchone() == (0,)
        ),
        what="an empty queue",
    )


def left(db: Connection) -> dict[str, int]:
    """Rows of the queue tables that are not empty; a claim outside whose time is up is remembered for a while."""
    remembered = {"lease": "WHERE outside IS NULL OR expires_at > clock_timestamp()"}
    counts = {
        table: db.execute(f"SELECT count(*) FROM embed.{table} {remembered.get(table, '')}").fetchone()[0]  # type: ignore[index]
        for table in ("change", "job", "lease", "inflight", "failure")
    }
    return {table: count for table, count in counts.items() if count}


def locks(db: Connection) -> list[Any]:
    """Advisory locks of the server that belong to the extension."""
    return [row for row in db.execute(ADVISORY).fetchall() if 1163285000 <= row[0] < 1163286000]
