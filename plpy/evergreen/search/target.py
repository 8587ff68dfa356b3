"""What a search looks at: the active generation of a pipeline, and what a filter and row security leave of it."""

from typing import Any

from evergreen import db
from evergreen.catalog import models
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.db.queries import load
from evergreen.embedding.providers.registry import provider
from evergreen.search import filters
from evergreen.search.filters import Filter
from evergreen.search.keywords import Words
from evergreen.search.view import key_columns, view_of
from evergreen.source import expressions as ex
from evergreen.source import table
from evergreen.source.table import Source
from evergreen.storage import indexes, recall
from evergreen.storage.indexes import Index

SQL = load(__package__)


@frozen
class Target:
    """Where to search and what for, resolved in one snapshot. ``vector``: none where only words are looked for.

    ``visible``: where row security applies to the caller, what all chunks ``v`` that the caller may see are read from.
    Hidden rows must not decide what is looked at either: how many rows an index comes upon can be read in the
    statistics views, and tells how many hidden ones have a word, or are nearer.
    """

    view: str
    generation: int
    vector: str | None
    words: Words | None
    index: Index
    is_indexed: bool
    width: int | None  # of a scan of the index, see ``storage.recall``
    not_blank: str  # condition on a chunk ``v``: its vector means something; empty where all do
    visible: str | None = None
    filter: Filter | None = None
    filtered: str = ""  # what all chunks ``v`` that pass the filter are read from, by the rows of the source
    condition: str = ""  # the filter, on a chunk ``v``


def target(pipeline: Pipeline, vector: str | None, words: Words | None = None) -> Target:
    """Return the active generation of a pipeline as a target; needs the extension's rights."""
    active = pipeline.active
    is_indexed = indexes.exists(indexes.name(active))
    width = recall.width(active.id) if is_indexed else None
    index = indexes.index_of_options(active, models.vector_schema())
    not_blank = indexes.not_blank(index, "v.embedding") if provider(active.model.provider).zeros else ""
    return Target(view_of(pipeline), active.id, vector, words, index, is_indexed, width, not_blank)


def filtered(pipeline: Pipeline, given: str | None) -> dict[str, Any]:
    """Return what a filter adds to a target. A subquery is looked at chunk by chunk, in the order of an index."""
    source = table.of_pipeline(pipeline) if given is not None else None
    if given is None or source is None:
        return {}
    row = "s"
    while source.column(row) is not None:  # a column of this name would be taken for the row
        row += "_"
    found = filters.build(source, given, row)
    if found is None:
        return {}
    matches = _matches(pipeline, source, row, "v")
    return {
        "filter": found,
        "condition": f" AND (SELECT {found.where} FROM {source.from_clause} {row} WHERE {matches})",
        "filtered": _by_source(pipeline, source, row, found.where),
    }


def _matches(pipeline: Pipeline, source: Source, row: str, view: str) -> str:
    names = zip(key_columns(pipeline), source.key, strict=True)
    return " AND ".join(f"{view}.{name} {column.equal} {ex.comparable(row, column)}" for name, column in names)


def _by_source(pipeline: Pipeline, source: Source, row: str, where: str) -> str:
    return SQL.view_by_source.with_identifiers(
        source=source.from_clause,
        row=row,
        view=view_of(pipeline),
        matches=_matches(pipeline, source, row, "w"),
        where=where,
    ).text


def visible(pipeline: Pipeline, filtered: str = "") -> str:
    """Return what to read all chunks ``v`` from that the caller may see; needs the extension's rights.

    By the rows of the source, so that it takes time for those that the caller may see. The planner would not do that by
    itself, for it knows nothing of the keys in the store; nor can it where their equality is not leakproof.
    """
    source = table.of_pipeline(pipeline)
    key = source.key if source is not None else ()
    is_bound = tuple((c.attnum, c.name, c.type_name) for c in key) == pipeline.key
    if source is None or not is_bound or not db.value(SQL.is_leakproof, [c.type_oid for c in key]):
        return f"{view_of(pipeline)} v"
    return filtered or _by_source(pipeline, source, "s", "true")
