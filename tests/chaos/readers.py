"""A reader who looks while all goes on: what a view calls fresh must be the vector of the text in the same snapshot."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from sources import PIPELINES, Pipeline, expected, is_of, shown

Connection = psycopg.Connection[Any]


class Reader:
    """Compares every view with its source in one snapshot, again and again."""

    def __init__(self, connect: Callable[[str], Connection]) -> None:
        self.looks = 0
        self.rows = 0
        self.wrong: list[str] = []
        self.errors: list[psycopg.Error] = []
        self._connect = lambda: connect("reader")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _live(self) -> None:
        session: Connection | None = None
        while not self._stop.wait(0.3):
            try:
                session = self._connect() if session is None or session.closed else session
                for pipeline in PIPELINES:
                    self._look(session, pipeline)
            except psycopg.Error as error:
                if session is not None and not session.closed:
                    self.errors.append(error)
                    session.execute("ROLLBACK")

    def _look(self, session: Connection, pipeline: Pipeline) -> None:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        texts, rows = expected(session, pipeline), shown(session, pipeline)
        session.execute("COMMIT")
        self.looks += 1
        self.rows += len(rows)
        self.wrong += [
            f"{pipeline.name} {key} is called fresh as {row.chunk!r} and is {texts.get(key)!r}"
            for key, row in rows
            if not row.is_stale and not is_of(pipeline, row, texts.get(key))
        ]
        if len({key for key, _ in rows}) < len(rows):
            self.wrong.append(f"{pipeline.name} shows a key twice")
