"""A source's partitions: rows that come or go with one are not in the WAL, so attaching and dropping is detected."""

from evergreen import db
from evergreen.core.pipeline import Pipeline
from evergreen.db.queries import load

SQL = load(__package__)


def current(source: int) -> list[int]:
    """Return the OIDs of the source and its partitions."""
    return list(db.value(SQL.current_partitions, source))


def sync(pipeline: Pipeline) -> str | None:
    """Record the partitions of a source read from the WAL; return the scope to check when they changed, else None."""
    before = db.value(SQL.streamed_partitions, pipeline.id)
    if before is None:
        return None
    after = current(pipeline.source)
    if after == before:
        return None
    db.run(SQL.set_streamed_partitions, pipeline.id, after)
    if any(db.value(SQL.has_pages, partition) for partition in set(after) - set(before)):
        return "source"
    return "document" if set(before) - set(after) else None


def record(pipeline: Pipeline) -> bool:
    """Record the source's partitions, as a dropped table cannot be traced to its root; return whether one is gone."""
    return bool(db.value(SQL.record_partitions, pipeline.id))
