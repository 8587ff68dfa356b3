"""Row security for the caller: does it apply, and which rows are visible. Not to be called as the extension's owner."""

from collections.abc import Sequence

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.pipeline import Pipeline
from evergreen.db.privileges import as_extension_owner
from evergreen.db.queries import load
from evergreen.source import expressions as ex
from evergreen.source import table
from evergreen.source.table import Source

SQL = load(__package__)
_KEYS_PER_QUERY = 1000


class UnboundError(Exception):
    """The source is gone, or its key is no longer the pipeline's."""


def is_restricted(pipeline: Pipeline) -> bool:
    """Return whether row security applies to the caller on the source, or on a table under it.

    Also where the source is a view that may show the caller fewer rows than its owner.
    """
    tables = [pipeline.source, *(link.base for link in pipeline.links)]
    owner = pipeline.owner if pipeline.depends_on_reader else None
    return bool(db.value(SQL.is_restricted, tables, owner))


def sees_any(pipeline: Pipeline, keys: Sequence[str]) -> bool:
    """Return whether the caller sees a row with any of these keys, given in their stored form.

    Raises UnboundError, and DatabaseError as the caller's own SELECT would: 42501, 55P03.
    """
    if not keys:
        return False
    source = as_extension_owner(lambda: _current_source(pipeline.id))
    if source is None:
        raise UnboundError
    matches = (
        f"{ex.comparable('s', column)} {column.equal} {ex.key_value('k.key', place, column)}"
        for place, column in enumerate(source.key)
    )
    query = SQL.sees_any.with_identifiers(source=source.from_clause, matches=" AND ".join(matches))
    parts = (list(keys[start : start + _KEYS_PER_QUERY]) for start in range(0, len(keys), _KEYS_PER_QUERY))
    return any(db.in_discarded_subtransaction(lambda part=part: bool(db.value(query, part))) for part in parts)


def _current_source(pipeline_id: int) -> Source | None:
    """Return the source as it is now; None when its key is not the pipeline's."""
    pipeline = pipelines.by_id(pipeline_id)
    source = table.of_pipeline(pipeline) if pipeline is not None else None
    if pipeline is None or source is None:
        return None
    return source if tuple((c.attnum, c.name, c.type_name) for c in source.key) == pipeline.key else None
