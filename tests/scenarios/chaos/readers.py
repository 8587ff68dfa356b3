"""A reader who looks while all goes on: in any snapshot each row is fresh, with the right vector, or pending."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.scenarios.chaos.sources import PIPELINES, Key, Pipeline, Shown, expected, is_of, shown, source_keys

Connection = psycopg.Connection[Any]

_IDS = """
SELECT p.id AS pipeline, g.id AS generation
FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active' WHERE p.name = %(name)s
"""
_PENDING = f"""
WITH ids AS ({_IDS})
SELECT c.key FROM embed.change_log c, ids WHERE c.pipeline = ids.pipeline AND c.key IS NOT NULL
UNION SELECT j.key FROM embed.job j, ids WHERE j.generation = ids.generation
UNION SELECT f.key FROM embed.failure f, ids WHERE f.generation = ids.generation
"""
_SWEEPS = f"""
WITH ids AS ({_IDS})
SELECT s.scope FROM embed.backfill_cursor s, ids WHERE s.generation = ids.generation AND s.running
UNION SELECT c.scope FROM embed.change_log c, ids WHERE c.pipeline = ids.pipeline AND c.key IS NULL
"""
_DOCUMENTS = f"WITH ids AS ({_IDS}) SELECT d.key FROM embed.document d, ids WHERE d.generation = ids.generation"
_KEPT = 20


@dataclass(frozen=True)
class Snapshot:
    """All that one snapshot says of a pipeline."""

    keys: set[Key]
    texts: dict[Key, list[str]]
    rows: dict[Key, Shown]
    documents: set[Key]
    pending: set[Key]
    sweeps: set[str]  # what is walked through from end to end just now

    def faults(self, pipeline: Pipeline) -> list[str]:
        """What must not be, whatever is going on."""
        right = {key for key, row in self.rows.items() if is_of(pipeline, row, self.texts.get(key))}
        found = [
            f"{key} is called fresh as {row.chunks} and is {self.texts.get(key)}"
            for key, row in self.rows.items()
            if not all(row.is_stale) and key not in right
        ]
        if pipeline.is_read:  # what is in the WAL only cannot be told from what is lost
            return [f"{pipeline.name}: {fault}" for fault in found]
        if "source" not in self.sweeps:
            found += [f"{key} is lost" for key in self.texts.keys() - right - self.pending]
        if not self.sweeps:
            found += [f"{key} is gone and stays" for key in self.documents - self.keys - self.pending]
        return [f"{pipeline.name}: {fault}" for fault in found]


class Reader:
    """Looks at every pipeline in a snapshot, again and again."""

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
        while not self._stop.wait(0.05):
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
        found = look(session, pipeline)
        session.execute("COMMIT")
        self.looks += 1
        self.rows += len(found.rows)
        if len(self.wrong) < _KEPT:
            self.wrong += found.faults(pipeline)


def look(session: Connection, pipeline: Pipeline) -> Snapshot:
    """Read all there is of a pipeline.

    The locks come before the snapshot, because TRUNCATE, and a view that shows another generation, are seen by
    snapshots that are older than they are.
    """
    session.execute(f"LOCK TABLE {pipeline.source}, {pipeline.name}_embedding IN ACCESS SHARE MODE")

    def keys(query: str) -> set[Key]:
        return {tuple(row[0]) for row in session.execute(query, {"name": pipeline.name}).fetchall()}

    return Snapshot(
        source_keys(session, pipeline),
        expected(session, pipeline),
        shown(session, pipeline),
        keys(_DOCUMENTS),
        keys(_PENDING),
        {row[0] for row in session.execute(_SWEEPS, {"name": pipeline.name}).fetchall()},
    )
