"""The partitions of a source that is read from the WAL: what comes with one, or goes with it, was not written there."""

from evergreen import db
from evergreen.core.pipeline import Pipeline
from evergreen.db.queries import load

SQL = load(__package__)


def current(source: int) -> list[int]:
    """The source and its partitions, by oid."""
    return list(db.value(SQL.current_partitions, source))


def sync(pipeline: Pipeline) -> str | None:
    """Note the partitions there are; return what is to be checked since the last look: a scope, or None."""
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
    """Remember the source's partitions, as nothing tells whose a dropped table was; True when there is one less."""
    return bool(db.value(SQL.record_partitions, pipeline.id))
