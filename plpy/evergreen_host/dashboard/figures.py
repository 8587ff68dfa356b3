"""What the poller reads: one look at everything that the pages show."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from evergreen_host.database import Database, Row
from evergreen_host.monitor import lateness, status

# Views that only some roles may read, or that older versions of the extension lack, are left out.
_SLOW = {
    "pipelines": "SELECT * FROM {schema}.embed_pipelines",
    # No coverage, and chunks apart: both are counted up to 5,000 rows, and no look may be dearer than embed_status.
    "generations": "SELECT pipeline, generation, state, model, model_revision, documents, pending, failed,"
    " indexed, recall, bridge_recall, since, maintenance_error"
    " FROM {schema}.embed_generations ORDER BY pipeline, generation DESC",
    "chunks": "SELECT pipeline, generation, chunks FROM {schema}.embed_generations WHERE state = 'active'",
    "models": "SELECT m.model, m.provider, m.endpoint, m.dimensions, m.revision, m.drift, m.served_as, m.watched_at,"
    " m.changed_at, m.settled FROM {schema}.embed_models m WHERE NOT m.built_in OR EXISTS"
    " (SELECT FROM {schema}.embed_generations g WHERE g.model = m.model) ORDER BY m.model",
    "endpoints": "SELECT * FROM {schema}.embed_endpoints ORDER BY endpoint",
    "usage": "SELECT pipeline, hour, sum(texts)::pg_catalog.int8 AS sent, sum(tokens)::pg_catalog.int8 AS tokens,"
    " sum(cost)::pg_catalog.float8 AS cost,"
    " sum(saved_by_fingerprint + saved_by_cache + saved_by_dedupe)::pg_catalog.int8 AS saved"
    " FROM {schema}.embed_usage"
    " WHERE hour > pg_catalog.clock_timestamp() - interval '25 hours' GROUP BY 1, 2 ORDER BY 2",
}
_BATCHES = "SELECT * FROM {schema}.embed_batches ORDER BY id DESC LIMIT 50"
_FAILURES = (
    "SELECT key::pg_catalog.text AS key, class, message, attempts, first_at, last_at, generation"
    " FROM {schema}.embed_failures WHERE pipeline = %s ORDER BY last_at DESC LIMIT 50"
)
_ROLE = "SELECT current_user::pg_catalog.text AS role, pg_catalog.pg_is_in_recovery() AS is_standby"


@dataclass(frozen=True)
class Slow:
    """Figures that change slowly; ``notes`` says why some are missing."""

    tables: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    notes: dict[str, str] = field(default_factory=dict[str, str])
    role: str = ""
    is_standby: bool = False

    def of(self, table: str, pipeline: str | None = None) -> list[Row]:
        """Return the rows of a view, of one pipeline or all."""
        rows = self.tables.get(table, [])
        return rows if pipeline is None else [row for row in rows if row["pipeline"] == pipeline]


@dataclass(frozen=True)
class Figures:
    """One look: the pipelines' status, since when and why they are late, and how long it took."""

    at: float
    database: str
    version: str
    status: list[Row]
    late: dict[str, str]
    slow: Slow
    failures: dict[str, list[Row]]
    took: float = 0.0

    def of(self, pipeline: str) -> Row | None:
        """Return the status of one pipeline."""
        return next((row for row in self.status if row["pipeline"] == pipeline), None)


def read(database: Database, slow: Slow | None, wanted: Iterable[str] = ()) -> Figures:
    """Look at the pipelines, and the dead letters of those ``wanted``; at the rest too unless ``slow`` is recent."""
    started = time.monotonic()
    rows = status.read(database, None)
    took = time.monotonic() - started
    late = lateness.reasons(database, rows)
    failures = {name: database.rows(_FAILURES, name) for name in wanted}
    slow = slow or read_slow(database)
    return Figures(time.time(), database.name, database.version, rows, late, slow, failures, took)


def read_slow(database: Database) -> Slow:
    """Read what changes slowly."""
    queries = {**_SLOW, **({"batches": _BATCHES} if database.has("embed_batches") else {})}
    tables: dict[str, list[Row]] = {}
    notes: dict[str, str] = {}
    for name, query in queries.items():
        try:
            tables[name] = database.rows(query)
        except psycopg.errors.InsufficientPrivilege as error:
            notes[name] = str(error.diag.message_primary)
    known: dict[str, Any] = database.rows(_ROLE)[0]
    return Slow(tables, notes, str(known["role"]), bool(known["is_standby"]))
