"""Copies vectors into the cache in batches, each its own transaction; the next drain finds them by their text."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from psycopg import errors, sql
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evergreen_host.database import Database
from evergreen_host.errors import EvergreenError
from evergreen_host.importers.vectorizers import Vectorizer, identifier

_LOWEST_UUID = "00000000-0000-0000-0000-000000000000"
_MAX_NUMBERS = 400_000  # per batch, about 4 MB as text
_MAX_ROWS = 1000
_LOCK_ATTEMPTS = 50
_LOCK_RETRY_DELAY = 0.1

_COUNT = sql.SQL("SELECT count(*) AS count FROM {target}")
_BATCH = sql.SQL("""
WITH batch AS MATERIALIZED (
    SELECT t.embedding_uuid AS id, t.chunk, t.embedding, pg_catalog.jsonb_build_array({key}) AS key
    FROM {target} t WHERE t.embedding_uuid > {after}::uuid ORDER BY t.embedding_uuid LIMIT {limit})
SELECT count(*) AS seen, (pg_catalog.array_agg(b.id ORDER BY b.id DESC))[1]::text AS last,
       CASE WHEN count(*) > 0 THEN {schema}.embed_import_vectors(
           {pipeline}, pg_catalog.array_agg(b.chunk ORDER BY b.id), pg_catalog.array_agg(b.embedding ORDER BY b.id),
           pg_catalog.array_agg(b.key ORDER BY b.id)) ELSE 0 END AS copied
FROM batch b
""")


def count(database: Database, vectorizer: Vectorizer) -> int:
    """Count the chunks of a vectorizer."""
    return int(database.connection.execute(_COUNT.format(target=identifier(vectorizer.target))).fetchall()[0]["count"])


def copy(database: Database, vectorizer: Vectorizer, pipeline: str, dimensions: int, *, quiet: bool) -> tuple[int, int]:
    """Copy the vectors of all chunks; return the number of chunks and of copied vectors."""
    key = sql.SQL(", ").join(
        sql.SQL("pg_catalog.to_jsonb({})").format(sql.Identifier("t", name)) for name in vectorizer.key
    )
    parameters = {
        "key": key,
        "target": identifier(vectorizer.target),
        "schema": sql.Identifier(database.schema),
        "pipeline": sql.Literal(pipeline),
        "limit": sql.Literal(max(1, min(_MAX_ROWS, _MAX_NUMBERS // dimensions))),
    }
    last, seen, copied = _LOWEST_UUID, 0, 0
    with _progress_bar(count(database, vectorizer), quiet=quiet) as advance:
        while row := _copy_batch(database, _BATCH.format(after=sql.Literal(last), **parameters)):
            last, seen, copied = row["last"], seen + row["seen"], copied + row["copied"]
            advance(row["seen"])
    return seen, copied


def _copy_batch(database: Database, query: sql.Composed) -> dict[str, Any] | None:
    row = retry_while_locked(
        lambda: database.connection.execute(query).fetchall()[0], "a worker is embedding the same texts"
    )
    return row if row["seen"] else None


def retry_while_locked(step: Callable[[], Any], why: str) -> Any:
    """Retry a step that fails on a lock; raises EvergreenError after the last attempt."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            return step()
        except errors.LockNotAvailable:
            time.sleep(_LOCK_RETRY_DELAY)
    raise EvergreenError(f"lock not available: {why}", "run the same command again; it continues where it stopped")


@contextmanager
def _progress_bar(total: int, *, quiet: bool) -> Generator[Callable[[int], None]]:
    if quiet or not sys.stdout.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("vectors", total=total)
        yield lambda count: bar.advance(task, count)
