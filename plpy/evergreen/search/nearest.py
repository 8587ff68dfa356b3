"""The chunks nearest to a vector, by the index where it may be used."""

import math
from collections.abc import Generator
from contextlib import contextmanager

from evergreen import db
from evergreen.db.queries import Query, load
from evergreen.search import filters
from evergreen.search.target import Target
from evergreen.storage.chunks import is_zero

SQL = load(__package__)
_SCANNED, _SCANNED_A_RESULT = 4000, 50  # chunks that an index scan passes for a filter, at least
_MAX_WIDTH = 1000  # pgvector's
# Defaults of pgvector where the session has not loaded it yet.
_SCAN_SETTINGS = Query(
    "scan_settings",
    (),
    "SELECT coalesce(pg_catalog.current_setting('hnsw.ef_search', true), '40') AS width,"
    " coalesce(pg_catalog.current_setting('hnsw.max_scan_tuples', true), '20000') AS scanned",
)
_SET_SCAN = Query(
    "set_scan",
    ("text", "text"),
    "SELECT pg_catalog.set_config('hnsw.ef_search', $1, true), pg_catalog.set_config('hnsw.max_scan_tuples', $2, true)",
)


def nearest(target: Target, condition: str, limit: int) -> list[db.Row]:
    """Return the nearest chunks, as the caller may see them; none when the view shows another generation.

    A vector of zeros is near nothing, neither as a question nor as a chunk. Where a filter leaves too few of those that
    an index finds, all chunks that pass it are compared: they are few, or far away.
    """
    if target.vector is None or is_zero(target.vector):
        return []
    if target.visible or not target.is_indexed:
        return _nearest(target, condition, limit, target.visible or target.filtered)
    with _index_scan(target, limit):
        found = _nearest(target, condition, limit, "")
    if target.filter is None or len(found) >= limit:
        return found
    return _nearest(target, condition, limit, target.filtered)


def _nearest(target: Target, condition: str, limit: int, source: str) -> list[db.Row]:
    """Return the nearest chunks by an index, or of all in ``source``."""
    index = target.index
    is_rough = target.is_indexed and index.oversampling > 1
    indexed = SQL.nearest_quantized if is_rough else SQL.nearest
    distance = f"v.embedding {index.operator} $1"
    query = (SQL.nearest_exactly if source else indexed).with_identifiers(
        visible=source,
        view=target.view,
        generation=str(target.generation),
        condition=condition + target.not_blank,
        vector=f"{index.schema}.vector",
        rough=index.order("v.embedding", "$1"),
        more=str(index.oversampling),
        distance=distance,
        score=index.score("v.distance" if source else distance),
    )
    rows = filters.rows(query, target.filter, target.vector, limit)
    return [row for row in rows if not math.isnan(row["score"])]


@contextmanager
def _index_scan(target: Target, limit: int) -> Generator[None]:
    """Scan an index at the width that was found for it, unless the session's is greater.

    With a filter, a scan ends where reading the rows that pass takes less time.
    """
    now = db.one(_SCAN_SETTINGS)
    assert now is not None
    width = max(int(now["width"] or 0), min(max(target.width or 0, limit), _MAX_WIDTH) if target.width else 0)
    scanned = str(max(_SCANNED, _SCANNED_A_RESULT * limit)) if target.filter is not None else now["scanned"]
    wanted = (str(width) if width else now["width"], scanned)
    if wanted == (now["width"], now["scanned"]):
        yield
        return
    db.run(_SET_SCAN, *wanted)
    try:
        yield
    finally:
        db.run(_SET_SCAN, now["width"], now["scanned"])
