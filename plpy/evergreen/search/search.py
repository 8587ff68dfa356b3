"""embed_search: the best chunks for a question, with the caller's own rights on the source."""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.core.text import quoted
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.search import keywords, ranking
from evergreen.search import query as queries
from evergreen.search.bridged import asking
from evergreen.search.keywords import Near, Scope
from evergreen.search.nearest import nearest
from evergreen.search.target import Target, filtered, target, visible
from evergreen.search.view import shows_another, switched
from evergreen.source import row_security

SQL = load(__package__)
_MAX_K = 100_000
_TRIES = 3
_DEPTH = 60  # nearest chunks that are fused with those that have the words, at least


@frozen
class Asked:
    """What a search is to give."""

    mode: str
    k: int
    filter: str | None
    max_per_key: int | None
    min_score: float | None = None
    hides_stale: bool = False


@sql_entry
def embed_search(
    pipeline: str | None,
    query: str | None,
    k: int | None,
    mode: str | None,
    stale: str | None,
    max_per_key: int | None,
    min_score: float | None,
    filter_: str | None,
) -> list[tuple[str, int, str, float, bool]]:
    """Return (key, chunk_no, chunk, score, is_stale), best first; raises 22023, 42703, 42704, 42883, 58000."""
    check(query, k, mode, stale, max_per_key)
    asked = Asked(str(mode), int(k or 0), filter_, max_per_key, min_score, stale == "hide")
    found = search(pipeline, str(query), asked)
    return [(r["key"], r["chunk_no"], r["chunk"], r["score"], r["is_stale"]) for r in found]


def search(pipeline: str | None, query: str, asked: Asked) -> list[db.Row]:
    """Return the best chunks; raises 40001 if another generation was promoted since the transaction's snapshot."""
    for _ in range(_TRIES):
        where = resolve(pipeline, query, asked)
        found = _search(where, asked)
        if found or not shows_another(where.view, where.generation):
            return found
    raise switched(pipeline)


def _search(target: Target, asked: Asked) -> list[db.Row]:
    condition = f"{target.condition} AND NOT v.is_stale" if asked.hides_stale else target.condition
    fetch = asked.k
    while True:
        rows = _MODES[asked.mode](target, condition, fetch)
        found = _best(rows, asked.max_per_key, asked.min_score)[: asked.k]
        enough = len(found) >= asked.k or len(rows) < fetch or asked.max_per_key is None
        if enough or fetch >= _MAX_K:
            return found
        fetch = min(fetch * 4, _MAX_K)  # max_per_key left too few


def check(query: str | None, k: int | None, mode: str | None, stale: str | None, max_per_key: int | None) -> None:
    """Check what a search is asked for; raises 22023."""
    if not query or query.isspace():
        raise UserError("the question is empty", hint="Pass some text to search for.")
    if k is None or not 1 <= k <= _MAX_K:
        raise UserError(f"k must be from 1 to {_MAX_K}, not {quoted(k)}", hint="10 is the default.")
    if mode not in _MODES:
        raise UserError(f"there is no mode {quoted(mode)}", hint="Use 'vector', 'keyword' or 'hybrid'.")
    if stale not in {"serve", "hide"}:
        raise UserError(f"stale cannot be {quoted(stale)}", hint="Use 'serve' or 'hide'.")
    if max_per_key is not None and max_per_key < 1:
        raise UserError(f"max_per_key must be at least 1, not {max_per_key}", hint="NULL means no limit.")


def resolve(pipeline: str | None, query: str, asked: Asked) -> Target:
    """Find the view and embed the question by the model of the generation that it shows now.

    A view is what it is now, whatever the snapshot of the asking query: so the catalog is read as it is now, too. Where
    the transaction keeps its snapshot, or the view is switched between the two, ``shows_another`` tells.
    """
    role = caller()

    def run() -> tuple[Target, Pipeline]:
        found = pipelines.readable(pipeline, role)
        conditions = filtered(found, asked.filter)
        vector = _vector(found, query, asked.mode, role) if asked.mode != "keyword" else None
        words = keywords.of(found, query) if asked.mode != "vector" else None
        return replace(target(found, vector, words), **conditions), found

    where, found = as_extension_owner(run)
    if where.filter is not None:
        where.filter.check_values()
    if not row_security.is_restricted(found):
        return where
    return replace(where, visible=as_extension_owner(lambda: visible(found, where.filtered)))


def _vector(pipeline: Pipeline, query: str, mode: str, role: str) -> str | None:
    """Embed the question; a hybrid search goes on by keyword where that fails."""
    by = asking(pipeline)
    if mode == "hybrid":
        vector = queries.vector_or_none(pipeline, by.model, query, role)
        return by.mapped(vector) if vector is not None else None
    with by_words_meanwhile(pipeline):
        return by.mapped(queries.vector(pipeline, by.model, query, role))


@contextmanager
def by_words_meanwhile(pipeline: Pipeline) -> Generator[None]:
    """Have the HINT of a question that was not embedded name the search that needs no model."""
    try:
        yield
    except queries.NotEmbeddedError as error:
        call = f"embed_search({db.literal(pipeline.name)}, 'question', mode => 'hybrid')"
        error.hint = f"{call} searches by keyword while the model does not answer. {error.hint}"
        raise


def _by_keyword(target: Target, condition: str, limit: int) -> list[db.Row]:
    return keywords.best(_scope(target, condition, None), limit)


def _hybrid(target: Target, condition: str, limit: int) -> list[db.Row]:
    """Fuse what is nearest with what has the words: a question in plain words need not have all of its words there."""
    scope = _scope(target, condition, target.vector)
    near, worded = nearest(target, condition, max(_DEPTH, limit)), keywords.any_word(scope, limit)
    rows = list({(row["key"], row["chunk_no"]): row for row in [*worded.rows, *near]}.values())
    matches = keywords.rank(scope.words, rows, worded.vocabulary, limit)
    best = max((row["score"] for row in near), default=0.0)
    similar = [ranking.similarity(target.index.distance, row["score"], best) if near else 0.0 for row in rows]
    ranked = sorted(zip(rows, ranking.fuse(similar, matches), strict=True), key=lambda pair: -pair[1])
    return [{**row, "score": score} for row, score in ranked[:limit]]


def _scope(target: Target, condition: str, vector: str | None) -> Scope:
    assert target.words is not None
    index = target.index
    near = Near(vector, lambda one, other: index.score(f"{one} {index.operator} {other}"), f"{index.schema}.vector")
    return Scope(target.words, condition, target.visible, target.filtered or f"{target.view} v", near, target.filter)


_MODES: dict[str, Callable[[Target, str, int], list[db.Row]]] = {
    "vector": nearest,
    "keyword": _by_keyword,
    "hybrid": _hybrid,
}


def _best(rows: list[db.Row], max_per_key: int | None, min_score: float | None) -> list[db.Row]:
    seen: Counter[str] = Counter()
    kept: list[db.Row] = []
    for row in rows:
        seen[row["key"]] += 1
        if (max_per_key is None or seen[row["key"]] <= max_per_key) and (
            min_score is None or row["score"] >= min_score
        ):
            kept.append(row)
    return kept
