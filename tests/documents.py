"""Pipelines over (id, title, body) through the loopback model: what a view must show by our own reckoning."""

import time
from typing import Any

import orjson
import psycopg
import pytest
from provider import vector
from waiting import wait_until


def source_texts(db: psycopg.Connection[Any], source: str = "docs") -> dict[Any, str]:
    """The texts that columns => '{title,body}' makes, by id; rows without text left out."""
    rows = db.execute(f"SELECT id, title, body FROM {source}").fetchall()
    texts = {row[0]: "\n\n".join(part for part in row[1:] if part is not None) for row in rows}
    return {key: text for key, text in texts.items() if text.strip()}


def shown(db: psycopg.Connection[Any], pipeline: str = "docs") -> dict[Any, tuple[str, list[float]]]:
    """Chunk and vector of each row in a pipeline's view, by id; every row has one chunk."""
    rows = db.execute(f"SELECT id, chunk, embedding::text FROM {pipeline}_embedding").fetchall()
    found = {key: (chunk, orjson.loads(embedding)) for key, chunk, embedding in rows}
    assert len(found) == len(rows), "a row is shown twice"
    return found


def verified(db: psycopg.Connection[Any], pipeline: str = "docs") -> dict[str, int]:
    """What embed_verify counts, by state."""
    return dict(db.execute("SELECT * FROM embed_verify(%s)", (pipeline,)).fetchall())


def stale_keys(db: psycopg.Connection[Any], pipeline: str = "docs") -> list[Any]:
    """Ids that the view itself calls stale."""
    return [row[0] for row in db.execute(f"SELECT id FROM {pipeline}_embedding WHERE is_stale ORDER BY id").fetchall()]


def status_of(db: psycopg.Connection[Any], column: str, pipeline: str = "docs") -> Any:
    """One column of embed_status."""
    return db.execute(f"SELECT {column} FROM embed_status WHERE pipeline = %s", (pipeline,)).fetchone()[0]


def drain_once(db: psycopg.Connection[Any], pipeline: str | None = None) -> int:
    """One embed_drain()."""
    return db.execute("SELECT embed_drain(%s)", (pipeline,)).fetchone()[0]


def drain_all(db: psycopg.Connection[Any], pipeline: str | None = None) -> int:
    """Drain until a pass finds nothing to do, now or in an instant; returns how many passes found something."""
    soon = (
        "SELECT EXISTS (SELECT FROM embed.job WHERE token IS NULL AND ready_at < clock_timestamp() + interval '0.3 s')"
    )
    passes, until = 0, time.monotonic() + 120
    while time.monotonic() < until:
        if drain_once(db, pipeline):
            passes += 1
        elif pipeline is not None or db.execute(soon).fetchone() == (False,):
            return passes
    raise TimeoutError(f"no end of it: {db.execute('SELECT * FROM embed.job LIMIT 5').fetchall()}")


def rested(db: psycopg.Connection[Any]) -> None:
    """Wait until every endpoint may be sent to again."""
    wait_until(
        lambda: db.execute("SELECT count(rests_until) FROM embed_endpoints").fetchone() == (0,), what="a closed breaker"
    )


def assert_as_source(db: psycopg.Connection[Any], pipeline: str = "docs", source: str | None = None) -> None:
    """Every row of the source is shown with the vector of its text as it is now, and nothing else is; no drain."""
    source = source or pipeline
    texts = source_texts(db, source)
    found = shown(db, pipeline)
    assert {key: chunk for key, (chunk, _) in found.items()} == texts
    for key, text in texts.items():
        assert found[key][1] == pytest.approx(vector(text, len(found[key][1]))), (
            f"the vector of {key} is of another text"
        )
    assert stale_keys(db, pipeline) == []
    rows = db.execute(f"SELECT count(*) FROM {source}").fetchone()[0]
    assert verified(db, pipeline) == {"fresh": rows, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}
