"""Recall of a generation's vector index: what it finds of the nearest chunks, and the search width that finds enough.

The questions are chunks of the generation, and points half way between two chunks. The nearest others are taken from an
exact scan, and from the index at growing widths (``hnsw.ef_search``), as a search reads it. Of 18,000 descriptions at
width 40, an index found 99 % for chunks, 88 % for points between them, and 94 to 98 % for real questions: a chunk is
surrounded by its like, a question often is not.
"""

import json
import math
import time
from collections.abc import Iterator

from evergreen import db
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation
from evergreen.db import event_log
from evergreen.db.queries import Query, load
from evergreen.storage import indexes
from evergreen.storage.indexes import Index

SQL = load(__package__, "recall")
NEAREST = 10
_SAMPLES = 40
_LEAST_SAMPLES = 6
_SECONDS = 5.0  # to measure in: exact scans of many vectors take long
_WIDTHS = (40, 60, 80, 120, 200, 300, 500, 800, 1000)  # pgvector's default first, its maximum last
_SAME = 1e-6  # distances of equal vectors


@frozen
class _Question:
    chunk: int  # that it is the vector of, 0 for none
    vector: str
    farthest: float  # distance of the last of the nearest
    nearest: int  # how many they are: of a few chunks less than ten


def measure(generation: Generation, index: Index, target: float) -> None:
    """Measure an index and keep the least width that reaches the target."""
    started = time.monotonic()
    questions = _questions(generation, index, started + _SECONDS / 2)
    if not questions:
        return
    reached, width = 0.0, _WIDTHS[0]
    for one in _WIDTHS:
        reached, width = _recall(generation, index, questions, one), one
        if reached >= target or time.monotonic() - started > _SECONDS:
            break
    db.run(SQL.record_recall, generation.id, indexes.name(generation), reached, width, len(questions), target)
    event_log.info("recall_measured", generation=generation.id, recall=round(reached, 4), ef_search=width)


def _questions(generation: Generation, index: Index, until: float) -> list[_Question]:
    """Return chunks of the generation, each with the distance of its nearest others by an exact scan."""
    found: list[_Question] = []
    exact = _with_expressions(SQL.nearest_exactly, generation, index)
    sample = SQL.sample.with_identifiers(table=generation.table)
    for chunk, vector in _vectors(db.rows(sample, _SAMPLES)):
        distances = [other["distance"] for other in db.rows(exact, vector, chunk, NEAREST)]
        if distances and not math.isnan(distances[-1]):  # NaN is the distance of a zero vector
            found.append(_Question(chunk, vector, distances[-1], len(distances)))
        if len(found) >= _LEAST_SAMPLES and time.monotonic() > until:
            break
        db.check_interrupts()
    return found


def _vectors(rows: list[db.Row]) -> Iterator[tuple[int, str]]:
    """Return the chunks' own vectors, and after each the mean of it and the one before."""
    before: list[float] | None = None
    for row in rows:
        yield row["id"], row["vector"]
        own: list[float] = json.loads(row["vector"])
        if before is not None:
            yield 0, json.dumps([(one + other) / 2 for one, other in zip(own, before, strict=True)])
        before = own


def _recall(generation: Generation, index: Index, questions: list[_Question], width: int) -> float:
    query = _with_expressions(SQL.nearest_by_index, generation, index)
    db.run(SQL.set_width, str(width))
    hits = 0
    for question in questions:
        rows = db.rows(query, question.vector, question.chunk, NEAREST)
        hits += sum(row["distance"] <= question.farthest + _SAME for row in rows)
        db.check_interrupts()
    return hits / sum(question.nearest for question in questions)


def _with_expressions(query: Query, generation: Generation, index: Index) -> Query:
    column = f"g.embedding::{index.schema}.vector"
    return query.with_identifiers(
        table=generation.table,
        vector=f"{index.schema}.vector",
        distance=f"{column} {index.operator} $1",
        order=index.order(column, "$1") if index.storage != "vector" else f"g.embedding {index.operator} $1",
        more=str(index.oversampling),
        not_blank=indexes.not_blank(index, column),
    )


def width(generation: int) -> int | None:
    """Return the search width that was found for a generation's index; None where it was not measured."""
    return db.value(SQL.width, generation)


def forget_dropped() -> None:
    """Delete measurements of indexes that are gone."""
    db.run(SQL.forget_dropped)
