"""embed_compare: what searches find in the active generation and in the one that is being built, side by side."""

from collections.abc import Callable
from dataclasses import replace

from evergreen import db
from evergreen.catalog import models, pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import quoted
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.generations.build import built
from evergreen.search import query as querys
from evergreen.search import target as targets
from evergreen.search.bridged import asking
from evergreen.search.nearest import nearest
from evergreen.search.view import view_of
from evergreen.source import row_security
from evergreen.storage import indexes
from evergreen.storage.chunks import is_zero

SQL = load(__package__)
_SAMPLES = 20
_MAX_K = 1000
_MAX_FETCHED = 100_000


@frozen
class _Sides:
    """What is compared."""

    pipeline: Pipeline
    building: Generation
    view: str
    sees_all: bool  # the caller may see every row of the source
    role: str


@sql_entry
def embed_compare(
    pipeline: str | None, queries: list[str | None] | None, k: int | None
) -> list[tuple[str, float, str, str]]:
    """Return (query, overlap, active_keys, building_keys); raises 42704, 42501, 22023, 55000, 58000."""
    return _compare(pipeline, queries, k)


def mean_overlap(pipeline: str) -> float | None:
    """Return the mean overlap of the first ten for sample rows; None when there is nothing to compare."""
    overlaps = [overlap for _, overlap, _, _ in _compare(pipeline, None, 10)]
    return sum(overlaps) / len(overlaps) if overlaps else None


def _compare(pipeline: str | None, given: list[str | None] | None, k: int | None) -> list[tuple[str, float, str, str]]:
    if k is None or not 1 <= k <= _MAX_K:
        raise UserError(f"k must be from 1 to {_MAX_K}, not {quoted(k)}", hint="10 is the default.")
    sides = _sides(pipeline)
    texts = [text for text in given if text and not text.isspace()] if given is not None else _samples(sides)
    return [_row(text, _active_keys(sides, text, k), _building_keys(sides, text, k)) for text in texts]


def _row(text: str, active: list[str], building: list[str]) -> tuple[str, float, str, str]:
    longest = max(len(active), len(building))
    overlap = len({*active} & {*building}) / longest if longest else 1.0
    return text, overlap, f"[{','.join(active)}]", f"[{','.join(building)}]"


def _sides(name: str | None) -> _Sides:
    role = caller()

    def look() -> tuple[Pipeline, Generation, str]:
        found = pipelines.owned(name, role)
        return found, built(found), view_of(found)

    pipeline, building, view = as_extension_owner(look)
    return _Sides(pipeline, building, view, not row_security.is_restricted(pipeline), role)


def _samples(sides: _Sides) -> list[str]:
    """Texts of some rows, as the caller may see them."""
    if sides.sees_all:
        query = SQL.sample_texts.with_identifiers(table=sides.pipeline.active.table)
        return list(dict.fromkeys(row["chunk"] for row in as_extension_owner(lambda: db.rows(query, _SAMPLES))))
    return [row["chunk"] for row in db.rows(SQL.visible_texts.with_identifiers(view=sides.view), _SAMPLES)]


def _asked(sides: _Sides, text: str) -> str:
    """Embed a question as searches do: through a bridge, if there is one."""
    by = asking(sides.pipeline)
    return by.mapped(querys.vector(sides.pipeline, by.model, text, sides.role))


def _active_keys(sides: _Sides, text: str, k: int) -> list[str]:
    vector = as_extension_owner(lambda: _asked(sides, text))
    where = as_extension_owner(lambda: targets.target(sides.pipeline, vector))
    if not sides.sees_all:
        where = replace(where, visible=as_extension_owner(lambda: targets.visible(sides.pipeline)))
    return _distinct(lambda limit: [row["key"] for row in nearest(where, "", limit)], k)


def _building_keys(sides: _Sides, text: str, k: int) -> list[str]:
    """Look at all vectors: an index may not be there yet, and is not what is compared."""
    vector = as_extension_owner(lambda: querys.vector(sides.pipeline, sides.building.model, text, sides.role))
    if is_zero(vector):
        return []
    index = indexes.index_of_options(sides.building, as_extension_owner(models.vector_schema))
    distance = f"g.embedding {index.operator} $1"
    query = SQL.nearest.with_identifiers(
        table=sides.building.table,
        distance=distance,
        vector=f"{index.schema}.vector",
        not_blank=indexes.length_above_zero(index.schema, "g.embedding"),
    )

    def fetch(limit: int) -> list[str]:
        return [row["key"] for row in as_extension_owner(lambda: db.rows(query, vector, limit))]

    return _distinct(fetch, k, lambda keys: _visible(sides, keys))


def _visible(sides: _Sides, keys: list[str]) -> list[str]:
    if sides.sees_all:
        return keys
    seen = {row["key"] for row in db.rows(SQL.visible_keys.with_identifiers(view=sides.view), keys)}
    return [key for key in keys if key in seen]


def _distinct(
    fetch: Callable[[int], list[str]], k: int, keep: Callable[[list[str]], list[str]] = lambda keys: keys
) -> list[str]:
    """Return the first k different keys; rows may have several chunks, and some may not be seen."""
    limit = k
    while True:
        found = fetch(limit)
        keys = keep(list(dict.fromkeys(found)))
        if len(keys) >= k or len(found) < limit or limit >= _MAX_FETCHED:
            return keys[:k]
        limit = min(4 * limit, _MAX_FETCHED)
