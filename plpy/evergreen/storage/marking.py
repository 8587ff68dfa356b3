"""Marks vectors that may be of another model than their generation's, after a change of the model was noticed.

A marked row is stale, and prepared again when its model is back or rebuilt; nothing reuses its vectors.
"""

from evergreen import db
from evergreen.core.pipeline import Generation, Model
from evergreen.db.queries import load

SQL = load(__package__, "marking")
_ROWS = 5000  # documents at a time


def generations(model: int, revision: int) -> list[tuple[int, int]]:
    """Return the generations, with their pipelines, whose vectors are of a revision of a model."""
    return [(r["id"], r["pipeline"]) for r in db.rows(SQL.generations_of_revision, model, revision)]


def mark(generation: Generation, since: str) -> tuple[list[str], bool]:
    """Mark some rows that were embedded since a time; return their keys, and whether others are left."""
    rows = db.rows(SQL.lock_documents, generation.id, since, _ROWS)
    keys = [row["key"] for row in rows]
    if keys:
        query = SQL.mark_chunks.with_identifiers(table=generation.table)
        db.run(query, [row["id"] for row in rows], since, _unknown(generation.model))
        db.run(SQL.mark_documents, generation.id, keys)
    return keys, bool(db.value(SQL.is_any_left, generation.id, since))


def _unknown(model: Model) -> str:
    return f"{model.name} (unknown revision)"


def forget_cached(model: int, revision: int, since: str) -> None:
    """Delete the vectors of a revision that were cached since a time."""
    db.run(SQL.delete_cached_since, model, revision, since)
