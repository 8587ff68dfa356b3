"""Search by keyword: the best chunks by their words, as the caller may see them.

A policy, of the generation table too, has every row looked at before its words: a match is no leakproof operator. So
for a caller who may see all rows of the source, candidates are found by the index with the extension's rights, and the
caller gets what the view shows of them. Where row security applies, the words of all rows that the caller may see are
looked at: what an index comes upon would tell how many hidden rows have them.

Candidates come from the index alone, by the words that few chunks have. The best of them are read and ranked by all
words, and the best of those by the exact counts: to split a chunk into words takes longer than all the rest.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager

from evergreen import db
from evergreen.catalog import languages
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Pipeline
from evergreen.db.planner import planning
from evergreen.db.privileges import as_extension_owner
from evergreen.db.queries import Query, load
from evergreen.search import filters, keys, ranking
from evergreen.search.filters import Filter
from evergreen.search.view import key_columns, view_of
from evergreen.source import table as columns
from evergreen.storage import indexes

SQL = load(__package__, "keywords")
_MOST = 10_000  # chunks that are split into words where no index is used
_MATCHES = 2000  # chunks with all words of which the shortest are ranked
_CANDIDATES = 120  # chunks that are read and ranked, at least
_FILTERED = 5000  # of which a filter may leave a few
_EXACT = 24  # chunks whose words are counted exactly, at least
_WORDS = 24  # of a question: the longest, which are rare more often than not
_GROWTH = 8  # when the caller may not see enough of the candidates
#: More chunks than this have a common word. The index returns a random part of more than ``_FUZZY``.
_COMMON, _FUZZY = 200, 3200
_LEXEME = re.compile(r"'((?:[^']|'')*)'")
_SET_FUZZY = Query("set_fuzzy", ("text",), "SELECT pg_catalog.set_config('gin_fuzzy_search_limit', $1, true)")
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
    is_indexed: bool
    chunks: int  # of the generation, about


@frozen
class Near:
    """A vector, and how near chunks are to it: SQL of the score for an embedding and a parameter."""

    vector: str | None
    score: Callable[[str, str], str]
    type: str


@frozen
class Scope:
    """What a search by words looks at. ``condition``: on a chunk ``v``.

    ``visible``: what to read the chunks from where no index may be used, see ``search.visible``; ``all_chunks``: where
    none is there, or would have to be read nearly whole.
    """

    words: Words
    condition: str
    visible: str | None
    all_chunks: str
    near: Near
    filter: Filter | None

    @property
    def reads_all(self) -> bool:
        """Whether each chunk is split into words."""
        return self.visible is not None or not self.words.is_indexed


@frozen
class Found:
    """Chunks and the words by which they are ranked."""

    rows: list[db.Row]
    vocabulary: ranking.Vocabulary


_NOTHING = Found([], ranking.Vocabulary({}))


def of(pipeline: Pipeline, query: str) -> Words:
    """Look for a query's words in a pipeline's active generation; needs the extension's rights."""
    source = columns.of_pipeline(pipeline)
    key = source.key if source is not None else ()
    found = tuple(
        (name, type_name, column.equal)
        for name, column, (_, _, type_name) in zip(key_columns(pipeline), key, pipeline.key, strict=False)
    )
    language, active = languages.of(pipeline.options), pipeline.active
    chunks = db.value(SQL.table_rows, active.table)
    return Words(
        query,
        indexes.language_constant(language),
        active.table,
        view_of(pipeline),
        active.id,
        found,
        indexes.exists(indexes.words_name(active, language)),
        max(int(chunks or 0), 1000),
    )


def best(scope: Scope, limit: int) -> list[db.Row]:
    """Return up to ``limit`` chunks with all words, best first."""
    where = scope.words
    words = _lexemes(where)["all"]
    if scope.reads_all:
        found = _read_all(scope, limit, _ALL_WORDS, words)
    else:
        rows = _enough(scope, limit, lambda number: [as_extension_owner(_with_all(where, number), stable=True)])
        if rows is None:
            found = _read_all(scope, limit, _ALL_WORDS, words)
        else:
            found = Found(rows, _weighed(where, words)) if rows else _NOTHING
    matches = rank(where, found.rows, found.vocabulary, limit)
    ranked = sorted(zip(found.rows, matches, strict=True), key=lambda pair: -pair[1].score)
    return [{**row, "score": match.score} for row, match in ranked[:limit]]


def any_word(scope: Scope, limit: int) -> Found:
    """Return chunks with all words and chunks with the rarest words; and their vocabulary, to rank them by.

    The rows' score is how near they are to the scope's vector.
    """
    where = scope.words
    words = _lexemes(where)["any"]
    if not words:
        return _NOTHING
    if scope.reads_all:
        return _read_all(scope, limit, _ANY_WORD, words)
    counts: dict[str, int] = {}

    def candidates(number: int) -> list[list[db.Row]]:
        def look() -> list[list[db.Row]]:
            rare = _with_any(where, words, number)
            counts.update(zip(rare[0]["lexemes"] or [], rare[0]["chunks"] or [], strict=True))
            return [[row for row in rare if row["key"] is not None], _with_all(where, min(number, _CANDIDATES))()]

        return as_extension_owner(look, stable=True)

    rows = _enough(scope, limit, candidates)
    if rows is None:
        return _read_all(scope, limit, _ANY_WORD, words)
    return Found(rows, ranking.vocabulary(counts, where.chunks, _COMMON))


def rank(where: Words, rows: list[db.Row], vocabulary: ranking.Vocabulary, limit: int) -> list[ranking.Match]:
    """Judge chunks by a question's words: roughly, and the best of them by exact counts."""
    words = list(vocabulary.weights)
    counter = ranking.Counter(words)
    lengths = [len(row["chunk"]) for row in rows]
    matches = [
        vocabulary.match(counter.counts(row["chunk"]), length) for row, length in zip(rows, lengths, strict=True)
    ]
    first = sorted(range(len(rows)), key=lambda i: -matches[i].score)[: max(_EXACT, min(limit, _CANDIDATES))]
    if not words or not first:
        return matches
    query = SQL.term_counts.with_identifiers(words=indexes.words_expression("u.chunk", where.language))
    exact = db.rows(query, [rows[i]["chunk"] for i in first], words)
    for i, row in zip(first, exact, strict=True):
        matches[i] = vocabulary.match(dict(zip(words, row["counts"], strict=True)), lengths[i])
    return matches


def _lexemes(where: Words) -> dict[str, list[str]]:
    query = SQL.lexemes.with_identifiers(
        language=where.language,
        most=str(indexes.MAX_KEYWORD_CHARACTERS),
        query=_ALL_WORDS.format(language=where.language),
    )
    found = db.one(query, where.query)
    assert found is not None
    wanted = [one.replace("''", "'").replace("\\\\", "\\") for one in _LEXEME.findall(found["all"] or "")]
    return {name: _longest(words) for name, words in (("any", found["any"]), ("all", wanted))}


def _longest(words: list[str]) -> list[str]:
    return sorted(dict.fromkeys(word for word in words if word), key=lambda word: (-len(word), word))[:_WORDS]


def _enough(scope: Scope, limit: int, candidates: Callable[[int], list[list[db.Row]]]) -> list[db.Row] | None:
    """Read candidates as the caller; more of them, as long as there are any, until the caller sees enough.

    None where a filter leaves too few of very many.
    """
    number = max(_CANDIDATES if scope.filter is None else _FILTERED, limit)
    while True:
        lists = candidates(number)
        asked = list({(row["key"], row["chunk_no"]): row for rows in lists for row in rows}.values())
        found = _visible(scope, asked, max(_CANDIDATES, limit)) if asked else []
        if len(found) >= limit or all(len(rows) < number for rows in lists):
            return found
        if number >= _MOST:
            return found if scope.filter is None else None
        number *= _GROWTH


def _with_all(where: Words, number: int) -> Callable[[], list[db.Row]]:
    asked = SQL.having_all_words.with_identifiers(
        table=where.table,
        words=indexes.words_expression("g.chunk", where.language),
        query=_ALL_WORDS.format(language=where.language),
        most=str(max(_MATCHES, number)),
    )

    def look() -> list[db.Row]:
        with planning.prefer_indexes():
            return db.rows(asked, where.query, number)

    return look


def _with_any(where: Words, words: list[str], number: int) -> list[db.Row]:
    asked = SQL.having_any_word.with_identifiers(
        table=where.table,
        words=indexes.words_expression("g.chunk", where.language),
        common=str(_COMMON + 1),
    )
    with planning.prefer_indexes(), _fuzzy():
        return db.rows(asked, words, number, float(where.chunks))


def _weighed(where: Words, words: list[str]) -> ranking.Vocabulary:
    asked = SQL.count_all_words.with_identifiers(
        table=where.table, words=indexes.words_expression("g.chunk", where.language), common=str(_COMMON + 1)
    )

    def count() -> dict[str, int]:
        with planning.prefer_indexes(), _fuzzy():
            return {row["lexeme"]: row["chunks"] for row in db.rows(asked, words)}

    return ranking.vocabulary(as_extension_owner(count, stable=True), where.chunks, _COMMON)


@contextmanager
def _fuzzy() -> Generator[None]:
    """Have the index give a part of the chunks that have a common word; embed_search() resets what is set here."""
    db.run(_SET_FUZZY, str(_FUZZY))
    try:
        yield
    finally:
        db.run(_SET_FUZZY, "0")


def _read_all(scope: Scope, limit: int, form: str, words: list[str]) -> Found:
    where = scope.words
    asked = SQL.read_all.with_identifiers(
        visible=scope.visible or scope.all_chunks,
        generation=str(where.generation),
        condition=scope.condition,
        words_of_view=indexes.words_expression("v.chunk", where.language),
        query=form.format(language=where.language),
        most=str(max(_MOST, limit)),
        score=scope.near.score("f.embedding", "$4"),
        vector=scope.near.type,
    )
    limit = max(_CANDIDATES, limit)
    rows = filters.rows(asked, scope.filter, where.query, words, limit, scope.near.vector)
    if not rows:
        return _NOTHING
    counts = dict(zip(rows[0]["lexemes"] or [], rows[0]["chunks"] or [], strict=True))
    return Found(rows, ranking.vocabulary(counts, rows[0]["total"], rows[0]["total"]))


def _visible(scope: Scope, candidates: list[db.Row], limit: int) -> list[db.Row]:
    where, near = scope.words, scope.near
    types = [type_name for _, type_name, _ in where.keys]
    values = (f"{value} AS k{i}" for i, value in enumerate(keys.values("r", types), 1))
    asked = SQL.visible_chunks.with_identifiers(
        values=", ".join(values),
        columns=keys.columns(types),
        view=where.view,
        matches=" AND ".join(f"v.{column} {equal} a.k{i}" for i, (column, _, equal) in enumerate(where.keys, 1)),
        generation=str(where.generation),
        condition=scope.condition,
        limit=str(limit),
        score=near.score("v.embedding", "$2"),
        vector=near.type,
    )
    return filters.rows(asked, scope.filter, keys.records(candidates, "chunk_no"), near.vector)
