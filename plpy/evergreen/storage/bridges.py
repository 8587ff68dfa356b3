"""Bridges: matrices that map questions from the space of a generation that is being built to the active one's."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evergreen import db
from evergreen.catalog import models
from evergreen.core.frozen import frozen
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import Generation
from evergreen.db.queries import load
from evergreen.storage.chunks import vector_literal

if TYPE_CHECKING:
    import numpy as np
    import orjson
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
else:
    np, orjson = lazy("numpy"), lazy("orjson")
    Matrix = Any

SQL = load(__package__, "bridges")
_ROWS = 500  # fetched at a time
_ALL_OF = 4  # times the sample: a generation of so many chunks is read whole
_REMEMBERED = 8  # matrices a session keeps; one of 1,536 dimensions has 9 MB
_remembered: "OrderedDict[tuple[int, int], Bridge]" = OrderedDict()


@frozen
class Bridge:
    """The map from ``building`` to ``active``. ``version`` changes with it; ``matrix``: (new, old dimensions)."""

    active: int
    building: int
    version: str
    matrix: Matrix

    def map(self, vector: str) -> str:
        """Map a question's vector, as pgvector's text."""
        return vector_literal(np.array(orjson.loads(vector), dtype=np.float32) @ self.matrix)


def find(active: Generation, building: Generation | None) -> Bridge | None:
    """Return the bridge between two generations, if there is one; its matrix is read once a session."""
    if building is None:
        return None
    pair = active.id, building.id
    version = version_of(*pair)
    if version is None:
        _remembered.pop(pair, None)
        return None
    known = _remembered.get(pair)
    if known is None or known.version != version:
        known = _read(active, building)
    if known is not None:
        _remembered[pair] = known
        _remembered.move_to_end(pair)
        if len(_remembered) > _REMEMBERED:
            _remembered.popitem(last=False)
    return known


def version_of(active: int, building: int) -> str | None:
    """Return the version of the bridge between two generations; None if there is none."""
    return db.value(SQL.version, active, building)


def _read(active: Generation, building: Generation) -> Bridge | None:
    row = db.one(SQL.read, active.id, building.id)
    if row is None:  # it was dropped a moment ago
        return None
    shape = building.model.dimensions, active.model.dimensions
    matrix = np.frombuffer(row["matrix"], dtype="<f4").astype(np.float32).reshape(shape)
    return Bridge(active.id, building.id, row["version"], matrix)


def record(
    active: Generation, building: Generation, matrix: Matrix, pairs: int, recall: float, overlap: float | None
) -> None:
    """Make or replace the bridge between two generations."""
    data = matrix.astype("<f4").tobytes()
    db.run(SQL.record, active.id, building.id, data, pairs, recall, overlap)


def delete(generations: list[int]) -> int:
    """Delete the bridges from and to these generations; return how many there were."""
    return db.run(SQL.delete, generations)


def read_pairs(active: Generation, building: Generation, most: int) -> tuple[Matrix, Matrix]:
    """Return vectors (new, old) of up to ``most`` chunks with the same text in both generations, in random order.

    A vector of zeros says nothing, and is left out.
    """
    tables = {"new": building.table, "old": active.table}
    is_small = int(db.value(SQL.estimate, building.id)) <= _ALL_OF * most
    picked = (SQL.pick_of_all if is_small else SQL.pick_by_place).with_identifiers(**tables).text
    query = SQL.pairs.with_identifiers(**tables, picked=picked, schema=models.vector_schema())
    new = np.empty((most, building.model.dimensions), dtype=np.float32)
    old = np.empty((most, active.model.dimensions), dtype=np.float32)
    count = 0
    for rows in _batches(db.stream(query, active.id, most, size=_ROWS)):
        block = slice(count, count + len(rows))
        new[block] = _decoded([row["new"] for row in rows], new.shape[1])
        old[block] = _decoded([row["old"] for row in rows], old.shape[1])
        count = block.stop
    new, old = new[:count], old[:count]
    useful = new.any(axis=1) & old.any(axis=1)
    return (new, old) if useful.all() else (new[useful], old[useful])  # without a copy, if possible


def read_vectors(generation: Generation, most: int) -> Iterator[Matrix]:
    """Return the vectors of a generation, block by block; of about ``most`` chunks if there are more."""
    chunks = int(db.value(SQL.estimate, generation.id))
    query = SQL.vectors.with_identifiers(table=generation.table, schema=models.vector_schema())
    percent = min(100.0, 100.0 * most / max(chunks, 1))
    for rows in _batches(db.stream(query, percent, size=_ROWS)):
        yield _decoded([row["vector"] for row in rows], generation.model.dimensions)


def _batches(rows: Iterator[db.Row]) -> Iterator[list[db.Row]]:
    batch: list[db.Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _decoded(vectors: list[bytes], dimensions: int) -> Matrix:
    """Return what pgvector's ``vector_send`` gave as an array."""
    layout = [("head", ">u4"), ("floats", ">f4", (dimensions,))]
    return np.frombuffer(b"".join(vectors), dtype=layout)["floats"].astype(np.float32)
