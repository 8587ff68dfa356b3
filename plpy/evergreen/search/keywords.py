"""Search by keyword: the best chunks by Postgres' full text search, as the caller may see them.

A policy, of the generation table too, has every row looked at before its words: a match is no leakproof operator. So
for a caller who may see all rows of the source, candidates are found by the index with the extension's rights, and the
caller gets what the view shows of them. Where row security applies, the words of all rows that the caller may see are
looked at: what an index comes upon would tell how many hidden rows have them.
"""

from collections.abc import Callable
from dataclasses import replace

from evergreen import db
from evergreen.catalog import languages
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.db.privileges import as_extension_owner
from evergreen.db.queries import load
from evergreen.search.view import key_columns, view_of
from evergreen.source import table as columns
from evergreen.storage import indexes

SQL = load(__package__)
_MOST = 10_000  # matches that are ranked: about half a second
_SPARE = 4  # candidates for each chunk that is wanted, since the caller may not see all of them
_LEAST = 50
_ALL_WORDS = "pg_catalog.websearch_to_tsquery({language}, $1)"
_ANY_WORD = (
    "pg_catalog.replace(pg_catalog.plainto_tsquery({language}, $1)::pg_catalog.text, '&', '|')::pg_catalog.tsquery"
)


@frozen
class Words:
    """Which words are looked for, and where."""

    query: str
    language: str  # as SQL writes it
    table: str
    view: str
    generation: int
    keys: tuple[tuple[str, str, str], ...]  # of the key: the view's column, its type, its equality


def of(pipeline: Pipeline, query: str) -> Words:
    """Look for a query's words in a pipeline's active generation; needs the extension's rights."""
    source = columns.describe(pipeline.source)
    key = source.key if source is not None else ()
    found = tuple(
        (name, type_name, column.equal)
        for name, column, (_, _, type_name) in zip(key_columns(pipeline), key, pipeline.key, strict=False)
    )
    language = indexes.language_constant(languages.of(pipeline.options))
    return Words(query, language, pipeline.active.table, view_of(pipeline), pipeline.active.id, found)


def best(where: Words, condition: str, limit: int, *, loose: bool, visible: str | None) -> list[db.Row]:
    """Return up to ``limit`` chunks with all words, best first; where that are few and ``loose``, then with any.

    ``visible``: what to read the chunks from where row security applies, see ``search.visible``.
    """

    def matching(form: str) -> list[db.Row]:
        if visible is None:
            return _matching(where, condition, limit, form)
        return _read_all(where, visible, condition, limit, form)

    found = matching(_ALL_WORDS)
    if loose and len(found) < limit:
        seen = {(row["key"], row["chunk_no"]) for row in found}
        more = matching(_ANY_WORD)
        found += [row for row in more if (row["key"], row["chunk_no"]) not in seen]
    return found[:limit]


def _matching(where: Words, condition: str, limit: int, form: str) -> list[db.Row]:
    """Look at more candidates, as long as there are any, until the caller sees enough of them."""
    number = max(_LEAST, _SPARE * limit)
    while True:
        candidates = as_extension_owner(_candidates(where, form, number), stable=True)
        found = _visible(where, candidates, condition) if candidates else []
        if len(found) >= limit or len(candidates) < number:
            return found[:limit]
        number *= _SPARE


def _read_all(where: Words, visible: str, condition: str, limit: int, form: str) -> list[db.Row]:
    asked = SQL.rank_all.with_identifiers(
        visible=visible,
        generation=str(where.generation),
        condition=condition,
        words=indexes.words_expression("m.chunk", where.language),
        words_of_view=indexes.words_expression("v.chunk", where.language),
        query=form.format(language=where.language),
        most=str(max(_MOST, limit)),
    )
    return db.rows(asked, where.query, limit)


def _candidates(where: Words, form: str, number: int) -> Callable[[], list[db.Row]]:
    asked = SQL.best_matches.with_identifiers(
        table=where.table,
        keys=", ".join(f"m.k{i}::pg_catalog.text AS k{i}" for i in range(1, len(where.keys) + 1)),
        words=indexes.words_expression("m.chunk", where.language),
        words_of_table=indexes.words_expression("g.chunk", where.language),
        query=form.format(language=where.language),
        most=str(max(_MOST, number)),
    )
    return lambda: db.rows(asked, where.query, number)


def _visible(where: Words, candidates: list[db.Row], condition: str) -> list[db.Row]:
    names = [f"k{i}" for i in range(1, len(where.keys) + 1)]
    keys = list(zip(names, where.keys, strict=True))
    asked = SQL.visible_chunks.with_identifiers(
        casts=", ".join(f"u.{n}::{type_name} AS {n}" for n, (_, type_name, _) in keys),
        arrays=", ".join(f"pg_catalog.unnest(${i})" for i in range(1, len(names) + 3)),
        names=", ".join(names),
        view=where.view,
        matches=" AND ".join(f"v.{column} {equal} a.{n}" for n, (column, _, equal) in keys),
        generation=str(where.generation),
        condition=condition,
    )
    typed = replace(asked, types=("jsonb[]", "int4[]", *("text[]" for _ in names)))
    lists = [[row[name] for row in candidates] for name in ("key", "chunk_no", *names)]
    scores = [row["score"] for row in candidates]
    return [{**row, "score": scores[row["place"] - 1]} for row in db.rows(typed, *lists)]
