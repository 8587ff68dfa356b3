"""embed_search: the best chunks for a question, with the caller's own rights on the source."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from evergreen import db
from evergreen.catalog import models, pipelines
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.core.text import quoted
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.providers.registry import provider
from evergreen.search import keywords
from evergreen.search import query as queries
from evergreen.search.keywords import Words
from evergreen.search.view import key_columns, shows_another, switched, view_of
from evergreen.source import expressions as ex
from evergreen.source import row_security, table
from evergreen.storage import indexes
from evergreen.storage.chunks import is_zero
from evergreen.storage.indexes import Index

SQL = load(__package__)
T = TypeVar("T", bound=Hashable)
_MAX_K = 100_000
_TRIES = 3
_DEPTH = 60  # places of each list that are fused, at least
# Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
# SIGIR 2009: the constant of the paper, which lessens what the very first places weigh.
CONSTANT = 60


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
    not_blank: str  # condition on a chunk ``v``: its vector means something; empty where all do
    visible: str | None = None


@frozen
class Asked:
    """What a search is to give."""

    mode: str
    k: int
    condition: str
    max_per_key: int | None
    min_score: float | None


@sql_entry
def embed_search(
    pipeline: str | None,
    query: str | None,
    k: int | None,
    mode: str | None,
    stale: str | None,
    max_per_key: int | None,
    min_score: float | None,
) -> list[tuple[str, int, str, float, bool]]:
    """Return (key, chunk_no, chunk, score, is_stale), best first; raises 22023, 42704, 58000."""
    check(query, k, mode, stale, max_per_key)
    assert query is not None
    assert k is not None
    assert mode is not None
    asked = Asked(mode, k, "AND NOT v.is_stale" if stale == "hide" else "", max_per_key, min_score)
    for _ in range(_TRIES):
        where = resolve(pipeline, query, mode)
        found = _search(where, asked)
        if found or not shows_another(where.view, where.generation):
            return [(r["key"], r["chunk_no"], r["chunk"], r["score"], r["is_stale"]) for r in found]
    raise switched(pipeline)


def _search(target: Target, asked: Asked) -> list[db.Row]:
    fetch = asked.k
    while True:
        rows = _MODES[asked.mode](target, asked.condition, fetch)
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


def resolve(pipeline: str | None, query: str, mode: str) -> Target:
    """Find the view and embed the question by the model of the generation that it shows now.

    A view is what it is now, whatever the snapshot of the asking query: so the catalog is read as it is now, too. Where
    the transaction keeps its snapshot, or the view is switched between the two, ``shows_another`` tells.
    """
    role = caller()

    def run() -> tuple[Target, Pipeline]:
        found = pipelines.readable(pipeline, role)
        vector = _vector(found, query, mode, role) if mode != "keyword" else None
        words = keywords.of(found, query) if mode != "vector" else None
        return target(found, vector, words), found

    where, found = as_extension_owner(run)
    if not row_security.is_restricted(found.source):
        return where
    return replace(where, visible=as_extension_owner(lambda: visible(found)))


def _vector(pipeline: Pipeline, query: str, mode: str, role: str) -> str | None:
    """Embed the question; a hybrid search goes on by keyword where that fails."""
    if mode == "hybrid":
        return queries.vector_or_none(pipeline, pipeline.active.model, query, role)
    with by_words_meanwhile(pipeline):
        return queries.vector(pipeline, pipeline.active.model, query, role)


@contextmanager
def by_words_meanwhile(pipeline: Pipeline) -> Generator[None]:
    """Have the HINT of a question that was not embedded name the search that needs no model."""
    try:
        yield
    except queries.NotEmbeddedError as error:
        call = f"embed_search({db.literal(pipeline.name)}, 'question', mode => 'hybrid')"
        error.hint = f"{call} searches by keyword while the model does not answer. {error.hint}"
        raise


def visible(pipeline: Pipeline) -> str:
    """Return what to read all chunks ``v`` from that the caller may see; needs the extension's rights.

    By the rows of the source, so that it takes time for those that the caller may see. The planner would not do that by
    itself, for it knows nothing of the keys in the store; nor can it where their equality is not leakproof.
    """
    view, source = view_of(pipeline), table.describe(pipeline.source)
    key = source.key if source is not None else ()
    is_bound = tuple((c.attnum, c.name, c.type_name) for c in key) == pipeline.key
    if source is None or not is_bound or not db.value(SQL.is_leakproof, [c.type_oid for c in key]):
        return f"{view} v"
    matches = (f"w.{n} {c.equal} {ex.comparable('s', c)}" for n, c in zip(key_columns(pipeline), key, strict=True))
    return SQL.view_by_source.with_identifiers(source=source.from_clause, view=view, matches=" AND ".join(matches)).text


def target(pipeline: Pipeline, vector: str | None, words: Words | None = None) -> Target:
    """Return the active generation of a pipeline as a target; needs the extension's rights."""
    active = pipeline.active
    is_indexed = bool(db.value(SQL.is_indexed, indexes.name(active)))
    index = indexes.index_of_options(active, models.vector_schema())
    not_blank = indexes.not_blank(index, "v.embedding") if provider(active.model.provider).zeros else ""
    return Target(view_of(pipeline), active.id, vector, words, index, is_indexed, not_blank)


def nearest(target: Target, condition: str, limit: int) -> list[db.Row]:
    """Return the nearest chunks, as the caller may see them; none when the view shows another generation.

    A vector of zeros is near nothing, neither as a question nor as a chunk.
    """
    if target.vector is None or is_zero(target.vector):
        return []
    index = target.index
    is_rough = target.is_indexed and index.oversampling > 1
    indexed = SQL.nearest_quantized if is_rough else SQL.nearest
    distance = f"v.embedding {index.operator} $1"
    query = (SQL.nearest_exactly if target.visible else indexed).with_identifiers(
        visible=target.visible or "",
        view=target.view,
        generation=str(target.generation),
        condition=condition + target.not_blank,
        vector=f"{index.schema}.vector",
        rough=index.order("v.embedding", "$1"),
        more=str(index.oversampling),
        distance=distance,
        score=index.score("v.distance" if target.visible else distance),
    )
    return [row for row in db.rows(query, target.vector, limit) if not math.isnan(row["score"])]


def _by_keyword(target: Target, condition: str, limit: int, *, loose: bool = False) -> list[db.Row]:
    assert target.words is not None
    return keywords.best(target.words, condition, limit, loose=loose, visible=target.visible)


def _hybrid(target: Target, condition: str, limit: int) -> list[db.Row]:
    """Fuse what is nearest with what has the words: a question in plain words need not have all of its words there."""
    depth = max(_DEPTH, limit)
    lists = [nearest(target, condition, depth), _by_keyword(target, condition, depth, loose=True)]
    rows = {(row["key"], row["chunk_no"]): row for ranked in lists for row in ranked}
    fused = rrf([[(row["key"], row["chunk_no"]) for row in ranked] for ranked in lists])
    return [{**rows[place], "score": score} for place, score in fused[:limit]]


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


def rrf(lists: Iterable[Sequence[T]]) -> list[tuple[T, float]]:
    """Return what is in any of the lists, best first, with its score: the sum of 1 / (60 + rank), ranks from 1.

    Of equal ones the one that an earlier list has first comes first.
    """
    scores: defaultdict[T, float] = defaultdict(float)
    for ranked in lists:
        for rank, one in enumerate(ranked, 1):
            scores[one] += 1.0 / (CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
