"""Intake: the change log becomes jobs, coalesced, in the statement that deletes the log rows."""

from evergreen import db
from evergreen.catalog.pipelines import Pipeline
from evergreen.queries import load

SQL = load(__file__)

_BATCH = 50_000
_CAREFUL_BATCH = 64


def shared(pipeline: Pipeline) -> int:
    """Fold the log as a worker that commits right after; return the rows folded. Skipped while another does it."""
    row = db.one(SQL.lock, pipeline.id)
    if row is None:
        return 0
    folded = _fold(pipeline, str(row["floor"]), _BATCH, SQL.by_rows.text)
    if folded:
        db.run(SQL.raise_floor, pipeline.id)
    return folded


def private(pipeline: Pipeline, limit: int) -> int:
    """Fold at most ``limit`` keys inside a drain: it locks only their rows, never the row that workers share."""
    row = db.one(SQL.floor, pipeline.id)
    return _fold(pipeline, str(row["floor"]), limit, SQL.by_keys.text) if row is not None else 0


def _fold(pipeline: Pipeline, floor: str, limit: int, choice: str) -> int:
    db.run(SQL.fold_scopes, pipeline.id, floor, [g.id for g in pipeline.generations])
    try:
        return _attempt(pipeline, floor, limit, choice)
    except db.DatabaseError as error:
        if db.sqlstate(error) != "55P03":
            raise
    # An open drain has queued one of these keys and did not commit: take small bites around it.
    try:
        return _attempt(pipeline, floor, min(limit, _CAREFUL_BATCH), choice)
    except db.DatabaseError as error:
        if db.sqlstate(error) != "55P03":
            raise
        return 0


def _attempt(pipeline: Pipeline, floor: str, limit: int, choice: str) -> int:
    generations = [g.id for g in pipeline.generations]
    query = SQL.fold.on(choice=choice)
    row = db.atomically(lambda: db.one(query, pipeline.id, floor, limit, generations))
    return int(row["folded"]) if row is not None else 0
