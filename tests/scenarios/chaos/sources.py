"""The tables that writers write and the pipelines on them, with what each must show by our own reckoning."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import psycopg
import pytest

from evergreen.prepare.chunkers import split_text
from tests.fixtures.providers.loopback import LoopbackProvider, vector

Connection = psycopg.Connection[Any]
Key = tuple[Any, ...]

TABLES = """
CREATE TABLE plain (
    id int PRIMARY KEY, title text, body text, shown boolean NOT NULL DEFAULT true, n int NOT NULL DEFAULT 0);
CREATE TABLE parts (
    tenant text, id int, title text, body text, shown boolean NOT NULL DEFAULT true, n int NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT
"""

KEYS = {"plain": ("id",), "parts": ("tenant", "id")}


@dataclass(frozen=True)
class Row:
    """What the pipelines watch of a source row."""

    title: str | None
    body: str | None
    shown: bool


@dataclass(frozen=True)
class Pipeline:
    """A pipeline, how it is made, and the text of a row as we reckon it."""

    name: str
    source: str
    model: str
    dimensions: int
    definition: str
    text: Callable[[Row], str | None]
    cut: Callable[[str], list[str]] = lambda text: [text]
    is_read: bool = False  # its changes are read from the WAL


def _joined(row: Row) -> str:
    return "\n\n".join(part for part in (row.title, row.body) if part is not None)


PIPELINES = (
    Pipeline("plain", "plain", "wide", 16, "columns => '{title,body}'", _joined),
    Pipeline(
        "chunked", "plain", "loop", 8, "columns => '{title,body}', chunker => embed_chunk_text(12)",
        _joined, partial(split_text, size=12),
    ),
    Pipeline(
        "shown", "plain", "loop", 8, "columns => '{body}', only_if => 'shown'",
        lambda row: row.body if row.shown else None,
    ),
    Pipeline("parts", "parts", "loop", 8, "columns => '{body}'", lambda row: row.body),
    Pipeline(
        "read", "parts", "loop", 8, "columns => '{title,body}', capture => 'cdc'", _joined, is_read=True,
    ),
)  # fmt: skip


def make_tables(db: Connection) -> None:
    """Make the sources, with a few rows."""
    for statement in TABLES.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO plain SELECT i, 'title ' || i % 3, 'common ' || i % 25 FROM generate_series(0, 19) i")
    db.execute(
        "INSERT INTO parts SELECT t, i, 'title', 'common ' || i"
        " FROM unnest('{a,b,c}'::text[]) t, generate_series(0, 6) i"
    )


def make_pipelines(db: Connection, provider: LoopbackProvider) -> None:
    """Register three models of one endpoint and make the pipelines."""
    provider.register(db, endpoint={"connect_timeout": 2, "read_timeout": 3, "total_timeout": 6})
    for name, dimensions in (("wide", 16), ("other", 8)):
        db.execute(
            "SELECT embed_model_add(%s, 'openai', %s, endpoint => 'loop', options => '{\"send_dimensions\": true}')",
            (name, dimensions),
        )
    for one in PIPELINES:
        db.execute(f"SELECT embed_create('{one.name}', '{one.source}', model => '{one.model}', {one.definition})")


def expected(db: Connection, pipeline: Pipeline) -> dict[Key, list[str]]:
    """The chunks that must have a vector, by key."""
    key = KEYS[pipeline.source]
    rows = db.execute(f"SELECT {', '.join(key)}, title, body, shown FROM {pipeline.source}").fetchall()
    texts = {row[: len(key)]: pipeline.text(Row(*row[len(key) :])) for row in rows}
    return {key: pipeline.cut(text) for key, text in texts.items() if text is not None and text.strip()}


def source_keys(db: Connection, pipeline: Pipeline) -> set[Key]:
    """The keys of all rows, those without text among them."""
    return set(db.execute(f"SELECT {', '.join(KEYS[pipeline.source])} FROM {pipeline.source}").fetchall())


@dataclass(frozen=True)
class Shown:
    """What a pipeline's view shows of a source row: all its chunks in their order."""

    chunks: list[str]
    vectors: list[list[float]]
    is_stale: list[bool]


def shown(db: Connection, pipeline: Pipeline) -> dict[Key, Shown]:
    """What the view shows, by key."""
    key = ", ".join(KEYS[pipeline.source])
    rows = db.execute(
        f"SELECT array_agg(chunk ORDER BY chunk_no), array_agg(embedding::text ORDER BY chunk_no),"
        f" array_agg(is_stale), {key} FROM {pipeline.name}_embedding GROUP BY {key}"
    ).fetchall()
    return {row[3:]: Shown(row[0], [orjson.loads(vector) for vector in row[1]], row[2]) for row in rows}


def is_of(pipeline: Pipeline, row: Shown, chunks: list[str] | None) -> bool:
    """Tell whether a row shows these chunks, each once, with their vectors."""
    if chunks is None or row.chunks != chunks:
        return False
    wanted = [vector(chunk, pipeline.dimensions) for chunk in chunks]
    return all(found == pytest.approx(right, abs=1e-6) for found, right in zip(row.vectors, wanted, strict=True))
