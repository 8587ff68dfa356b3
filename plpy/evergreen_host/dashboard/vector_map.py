"""A map of a pipeline's vectors: a sample, projected on the two directions in which it varies most (PCA)."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from evergreen_host.dashboard.asking import view_of
from evergreen_host.database import Database, Row

SIZE = 420
_SAMPLE = 400
_MARGIN = 12
_SHOWN = 160  # characters of a chunk
_LEAST = 3  # points that make a plane
_SOURCE = """
SELECT n.nspname, c.relname, c.reltuples, p.key_columns, c.relkind
FROM {schema}.embed_pipelines p JOIN pg_catalog.pg_class c ON c.oid = p.source
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pipeline = %s
"""
_KEYS = "SELECT pg_catalog.jsonb_build_array({keys})::pg_catalog.text AS key FROM {table} s {sample} LIMIT {most}"
_POINTS = """
SELECT v.key::pg_catalog.text AS key, v.chunk_no, pg_catalog.left(v.chunk, %s) AS chunk,
       v.embedding::pg_catalog.text AS vector, v.is_stale
FROM {view} v WHERE v.key = ANY (%s::pg_catalog.jsonb[]) AND v.embedding IS NOT NULL LIMIT %s
"""
_FAILED = "SELECT key::pg_catalog.text AS key FROM {schema}.embed_failures WHERE pipeline = %s LIMIT 1000"


@dataclass(frozen=True)
class Point:
    """One chunk on the map."""

    x: float
    y: float
    state: str
    key: str
    chunk: str


@dataclass(frozen=True)
class Map:
    """The points, and what share of the sample's variance the plane shows."""

    points: list[Point]
    explained: float

    def count(self, state: str) -> int:
        """Return the number of points in a state."""
        return sum(point.state == state for point in self.points)


def read(database: Database, pipeline: str) -> Map:
    """Return the map of a sample that this role may see."""
    rows = _sample(database, pipeline)
    failed = {row["key"] for row in database.rows(_FAILED, pipeline)}
    if len(rows) < _LEAST:
        return Map([], 0.0)
    vectors = np.array([json.loads(row["vector"]) for row in rows], dtype=np.float32)
    plane, explained = project(vectors)
    points = [
        Point(float(x), float(y), _state(row, failed), row["key"], row["chunk"])
        for (x, y), row in zip(_on_page(plane), rows, strict=True)
    ]
    return Map(points, explained)


def _state(row: Row, failed: set[str]) -> str:
    return "failed" if row["key"] in failed else "stale" if row["is_stale"] else "fresh"


def _sample(database: Database, pipeline: str) -> list[Row]:
    source = database.rows(_SOURCE, pipeline)
    if not source:
        return []
    one = source[0]
    # Blocks: the cost does not depend on the size of the table. A view or a small table is read from its start.
    share = min(100.0, 100.0 * 4 * _SAMPLE / one["reltuples"]) if one["reltuples"] > 0 else 100.0
    sampled = one["relkind"] in {"r", "p", "m"} and share < 100.0  # noqa: PLR2004
    query = sql.SQL(_KEYS).format(
        keys=sql.SQL(", ").join(sql.Identifier("s", name) for name in one["key_columns"]),
        table=sql.Identifier(one["nspname"], one["relname"]),
        sample=sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(share)) if sampled else sql.SQL(""),
        most=sql.Literal(_SAMPLE),
    )
    # Without parameters: names may have a % in them.
    keys = [row["key"] for row in database.connection.execute(query).fetchall()]
    points = _POINTS.replace("{view}", view_of(database, pipeline))
    return database.rows(points, _SHOWN, keys, _SAMPLE)


def project(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Return (n, 2) coordinates and the share of the variance that they show."""
    centred = vectors - vectors.mean(axis=0)
    _, strengths, axes = np.linalg.svd(centred, full_matrices=False)
    total = float((strengths**2).sum())
    explained = float((strengths[:2] ** 2).sum()) / total if total > 0 else 0.0
    plane: NDArray[np.float32] = centred @ axes[:2].T
    return plane if plane.shape[1] == 2 else np.pad(plane, ((0, 0), (0, 2 - plane.shape[1]))), explained  # noqa: PLR2004


def _on_page(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale both directions alike into the square."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    span = max(float((high - low).max()), 1e-9)
    return (plane - (low + high) / 2) / span * (SIZE - 2 * _MARGIN) + SIZE / 2
