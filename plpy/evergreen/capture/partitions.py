"""The partitions of a source that is read from the WAL: what comes with one, or goes with it, was not written there."""

from evergreen import db
from evergreen.core.pipeline import Pipeline
from evergreen.db.queries import load

SQL = load(__package__)


def now(source: int) -> list[int]:
    """The source and its partitions, by oid."""
    return list(db.value(SQL.now, source))


def follow(pipeline: Pipeline) -> str | None:
    """Note the partitions there are; return what is to be checked since the last look: a scope, or None."""
    before = db.value(SQL.of, pipeline.id)
    if before is None:
        return None
    here = now(pipeline.source)
    if here == before:
        return None
    db.run(SQL.set, pipeline.id, here)
    if any(db.value(SQL.has_pages, leaf) for leaf in set(here) - set(before)):
        return "source"
    return "document" if set(before) - set(here) else None


def note_partitions(pipeline: Pipeline) -> bool:
    """Remember the source's partitions, as nothing tells whose a dropped table was; True when there is one less."""
    return bool(db.value(SQL.note_partitions, pipeline.id))
