"""Endpoints, models and pipelines for tests of what sessions share, and a meter of what a server is sent."""

import threading
import time
from typing import Any

import psycopg
from provider import LoopbackProvider
from psycopg.types.json import Jsonb

CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true, max_runtime => '20 s')"}


def serve(
    db: psycopg.Connection[Any],
    provider: LoopbackProvider,
    name: str = "loop",
    model: dict[str, Any] | None = None,
    **endpoint: Any,
) -> None:
    """Register an endpoint with options, and a model of the same name on it with others."""
    options = Jsonb(endpoint)
    db.execute("SELECT embed_endpoint_set(%s, %s, options => %s)", (name, provider.url, options))
    db.execute(
        "SELECT embed_model_add(%s, 'openai', 8, endpoint => %s, options => %s)", (name, name, Jsonb(model or {}))
    )


def change(db: psycopg.Connection[Any], provider: LoopbackProvider, name: str = "loop", **endpoint: Any) -> None:
    """Set an endpoint again, with other options or on another server."""
    db.execute("SELECT embed_endpoint_set(%s, %s, options => %s)", (name, provider.url, Jsonb(endpoint)))


def create(db: psycopg.Connection[Any], pipeline: str = "docs", model: str = "loop", **options: Any) -> None:
    """Make a pipeline on the table of its name."""
    db.execute(
        "SELECT embed_create(%s, %s, columns => '{title,body}', model => %s, options => %s)",
        (pipeline, pipeline, model, Jsonb(options)),
    )


def table(db: psycopg.Connection[Any], name: str, rows: int, first: int = 1, text: str = "title") -> None:
    """Make a table like ``docs`` with texts of its own, if it is not there, and fill it; every text is two words."""
    db.execute(f"CREATE TABLE IF NOT EXISTS {name} (id int PRIMARY KEY, title text, body text)")
    statement = f"INSERT INTO {name} SELECT i, %s || i, %s FROM generate_series(%s::int, %s::int) i"
    db.execute(statement, (f"{text}-{name}-", name, first, first + rows - 1))


def hurry(db: psycopg.Connection[Any]) -> None:
    """As if all that waits had waited long enough; what endpoints and models rest for is left alone."""
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp() WHERE token IS NULL")


def let_time_pass(db: psycopg.Connection[Any]) -> None:
    """As if every endpoint and model had rested long enough, and all that waits had waited."""
    rest_over(db)
    hurry(db)


def rest_over(db: psycopg.Connection[Any]) -> None:
    """As if every endpoint and model had rested long enough; locks no row."""
    for name in _rests(db):
        db.execute("SELECT setval(%s, 1)", (name,))


def rest_longer(db: psycopg.Connection[Any]) -> None:
    """Whoever rests does so for an hour, however slow the machine is."""
    for name in _rests(db):
        until = "SELECT setval(%s, last_value + 3600000000) FROM {} WHERE last_value > 1"
        db.execute(psycopg.sql.SQL(until).format(psycopg.sql.SQL(name)), (name,))


def _rests(db: psycopg.Connection[Any]) -> list[str]:
    found = db.execute(
        "SELECT c.oid::regclass::text FROM pg_class c"
        " WHERE c.relkind = 'S' AND c.relnamespace = 'embed'::regnamespace AND c.relname ~ '_rests_until$'"
    )
    return [name for (name,) in found.fetchall()]


class Meter:
    """When a server got which request, and the most that it got in any stretch of time."""

    def __init__(self, provider: LoopbackProvider) -> None:
        self.seen: list[tuple[float, list[str]]] = []
        self._provider = provider
        self._guard = threading.Lock()
        provider.answer = self._note

    def _note(self, texts: list[str]) -> None:
        with self._guard:
            self.seen.append((time.monotonic(), texts))

    def requests(self, since: float = 0.0) -> int:
        """Count what came in."""
        return sum(at >= since for at, _ in self.seen)

    def most(self, seconds: float) -> int:
        """Return the most requests in any stretch of so many seconds."""
        times = sorted(at for at, _ in self.seen)
        return max((sum(start <= at < start + seconds for at in times) for start in times), default=0)
