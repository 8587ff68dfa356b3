"""Pipelines whose history goes through a batch API, and workers that take a batch through its course at once."""

import json
import time
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

WORK = "CALL embed_work(until_empty => true, max_runtime => '30 s')"
#: No text is to come, and whatever is due later is due now.
HURRY = """
UPDATE embed.batch SET next_at = least(next_at, clock_timestamp()), added_at = added_at - interval '1 minute'
WHERE NOT is_clean
"""


def fill(db: Connection, rows: int, table: str = "docs") -> None:
    """Have so many rows, each with a text of its own."""
    db.execute(f"TRUNCATE {table}")
    db.execute(
        f"INSERT INTO {table} (id, title, body) SELECT i, 'title', 'text ' || i FROM generate_series(1, %s) i", (rows,)
    )


def create(db: Connection, pipeline: str = "docs", model: str = "loop", **options: Any) -> None:
    """Create the pipeline."""
    given = {"backfill_via": "batch", "batch_min_texts": 5, **options}
    db.execute(
        f"SELECT embed_create('{pipeline}', '{pipeline}', columns => '{{title,body}}', model => %s, options => %s)",
        (model, json.dumps(given)),
    )


def state(db: Connection, column: str = "state") -> Any:
    """One column of the last batch."""
    row = db.execute(f"SELECT {column} FROM embed_batches ORDER BY id DESC LIMIT 1").fetchone()
    return row[0] if row is not None else None


def steps(db: Connection, worker: Connection, *states: str, timeout: float = 60.0) -> None:
    """Let a worker go on until the last batch is in one of these states."""
    until = time.monotonic() + timeout
    while state(db) not in states:
        worker.execute(WORK)
        db.execute(HURRY)
        if time.monotonic() > until:
            raise TimeoutError(f"the batch is not {states}: {batches(db)}")


def through(db: Connection, worker: Connection, timeout: float = 60.0) -> None:
    """Let a worker go on until nothing is left to do, at the provider either."""
    until = time.monotonic() + timeout
    while True:
        worker.execute(WORK)
        db.execute(HURRY)
        left = "SELECT EXISTS (SELECT FROM embed.batch WHERE NOT is_clean) OR EXISTS (SELECT FROM embed.job)"
        if db.execute(left).fetchone() == (False,):
            return
        if time.monotonic() > until:
            raise TimeoutError(
                f"no end of it: {batches(db)}, {db.execute('SELECT * FROM embed.job LIMIT 3').fetchall()}"
            )


def batches(db: Connection) -> list[tuple[Any, ...]]:
    """What there is."""
    columns = "id, state, texts, succeeded, failed, last_error"
    return db.execute(f"SELECT {columns} FROM embed_batches ORDER BY id").fetchall()
