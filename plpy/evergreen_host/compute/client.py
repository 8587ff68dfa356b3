"""Client of a pipeline's queue: claim, submit and release, with reconnects."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from evergreen_host.database import SESSION_OPTIONS, configure_session

_RETRY_FOR, _RETRY_DELAY = 300.0, 0.5  # seconds, for lost connections and locks
_EXTENSION_SCHEMA = """
SELECT n.nspname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) %s::pg_catalog.text
"""


@dataclass(frozen=True)
class ClaimedText:
    """A text to embed. ``revision``: which of the models that were served under the model's name."""

    token: int
    hash: bytes
    text: str
    model: str
    revision: int = 1


class QueueClient:
    """One pipeline's queue; each call is its own transaction, so none is open while the model runs."""

    def __init__(self, dsn: str, pipeline: str, lease: str, model: str | None) -> None:
        self._dsn = dsn
        self._pipeline = pipeline
        self._lease = lease
        self._model = model
        self._connection: psycopg.Connection[Any] | None = None
        self._identifiers: dict[str, sql.Identifier] = {}

    def claim(self, rows: int) -> list[ClaimedText]:
        """Claim the texts of at most `rows` rows."""
        query = "SELECT token, hash, text, model, model_revision FROM {claim}(%s, %s, %s, %s)"
        found = self._run_with_retry(query, (self._pipeline, rows, self._lease, self._model))
        return [ClaimedText(*row) for row in found]

    def dimensions(self, model: str) -> int:
        """Return the dimensions of a model's vectors."""
        return int(self._run_with_retry("SELECT dimensions FROM {models} WHERE model = %s", (model,))[0][0])

    def submit(self, texts: Sequence[ClaimedText], vectors: Sequence[str], tokens: int | None) -> int:
        """Submit vectors for texts of one claim; return the number of rows that are now fresh."""
        query = "SELECT {submit}(%s, %s, %s, %s::text[]::{vector}[], %s)"
        parameters = (self._pipeline, texts[0].token, [one.hash for one in texts], [*vectors], tokens)
        return int(self._run_with_retry(query, parameters)[0][0])

    def release(self, texts: Sequence[ClaimedText], error: str | None = None) -> None:
        """Release texts of one claim; with an `error`, their rows lose an attempt."""
        parameters = (self._pipeline, texts[0].token, [one.hash for one in texts], error)
        self._run_with_retry("SELECT {release}(%s, %s, %s, %s)", parameters)

    def _run_with_retry(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Run a call; retry after a lost connection or a lock timeout, so the call must be idempotent."""
        deadline = time.monotonic() + _RETRY_FOR
        while True:
            try:
                return self._execute(query, parameters)
            except psycopg.OperationalError as error:
                disconnected = self._connection is None or self._connection.closed
                if (
                    not (disconnected or isinstance(error, psycopg.errors.LockNotAvailable))
                    or time.monotonic() > deadline
                ):
                    raise
                if disconnected:
                    self._connection = None
                time.sleep(_RETRY_DELAY)  # the server restarts, or another session has the lock

    def _execute(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        connection = self._connect()
        return connection.execute(sql.SQL(query).format(**self._identifiers), parameters).fetchall()  # pyright: ignore[reportArgumentType]

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(self._dsn, **SESSION_OPTIONS)
            configure_session(self._connection)
            schemas = {name: _schema(self._connection, name) for name in ("evergreen", "vector")}
            self._identifiers = {
                name: sql.Identifier(schemas["evergreen"], f"embed_{name}")
                for name in ("claim", "submit", "release", "models")
            }
            self._identifiers["vector"] = sql.Identifier(schemas["vector"], "vector")
        return self._connection


def lease_seconds(dsn: str, lease: str) -> float:
    """Return the seconds of a lease, parsed by the server; raises psycopg.Error."""
    with psycopg.connect(dsn, **SESSION_OPTIONS) as connection:
        row = connection.execute("SELECT pg_catalog.date_part('epoch', %s::pg_catalog.interval)", (lease,)).fetchone()
    return float(row[0]) if row is not None else 0.0


def _schema(connection: psycopg.Connection[Any], extension: str) -> str:
    row = connection.execute(_EXTENSION_SCHEMA, (extension,)).fetchone()
    if row is None:
        raise LookupError(
            f"extension {extension} does not exist in this database; run: CREATE EXTENSION evergreen CASCADE"
        )
    return str(row[0])
