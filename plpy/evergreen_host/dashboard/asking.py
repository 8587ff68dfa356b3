"""What a person asks for: searches, a row's story, the comparison of generations."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from evergreen_host.database import Database, Row
from evergreen_host.errors import EvergreenError

MODES = ("vector", "keyword", "hybrid")
_SEARCH = (
    "SELECT key::pg_catalog.text AS key, chunk_no, chunk, score, is_stale FROM {schema}.embed_search(%s, %s, %s, %s)"
)
_COMPARE = (
    "SELECT query, overlap,"
    " ARRAY(SELECT k::pg_catalog.text FROM pg_catalog.jsonb_array_elements(active_keys) k) AS active_keys,"
    " ARRAY(SELECT k::pg_catalog.text FROM pg_catalog.jsonb_array_elements(building_keys) k) AS building_keys"
    " FROM {schema}.embed_compare(%s, {queries}, %s)"
)
_CHUNKS = (
    "SELECT DISTINCT ON (v.key) v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, NULL::pg_catalog.float8 AS score,"
    " v.is_stale FROM {view} v WHERE v.key = ANY (%s::pg_catalog.jsonb[]) ORDER BY v.key, v.chunk_no"
)
_VIEW = (
    "SELECT n.nspname, c.relname FROM {schema}.embed_pipelines p JOIN pg_catalog.pg_class c ON c.oid = p.view"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pipeline = %s"
)
_COVERAGE = "SELECT coverage FROM {schema}.embed_generations WHERE pipeline = %s AND state = 'building'"
_EXPLAIN = "SELECT {schema}.embed_explain(%s, %s::pg_catalog.jsonb) AS story"


@dataclass(frozen=True)
class Found:
    """The answer of one kind of search, or why there is none."""

    title: str
    hits: list[Row]
    error: str = ""
    hint: str = ""
    overlap: float | None = None


def _attempt(title: str, database: Database, query: str, *parameters: Any) -> Found:
    try:
        return Found(title, database.rows(query, *parameters))
    except psycopg.Error as error:
        if database.connection.closed:
            raise
        return Found(title, [], str(error.diag.message_primary or error).strip(), error.diag.message_hint or "")


def search(database: Database, pipeline: str, question: str, k: int, *, has_building: bool) -> list[Found]:
    """Search in each mode, and in the generation that is being built; one that fails does not hide the others."""
    found = [_attempt(mode, database, _SEARCH, pipeline, question, k, mode) for mode in MODES]
    return [*found, _building(database, pipeline, question, k)] if has_building else found


def _building(database: Database, pipeline: str, question: str, k: int) -> Found:
    """Search the generation that is being built; texts are those of the active one, by the rights of this role."""
    title = "vector, generation being built"
    compared = _attempt(title, database, _COMPARE.replace("{queries}", "ARRAY[%s]"), pipeline, question, k)
    if not compared.hits:
        return compared
    keys = list(compared.hits[0]["building_keys"])
    chunks = {row["key"]: row for row in _chunks(database, pipeline, keys)}
    hits = [chunks.get(key, {"key": key, "chunk": "", "score": None, "is_stale": False, "chunk_no": 0}) for key in keys]
    return Found(title, hits, overlap=compared.hits[0]["overlap"])


def _chunks(database: Database, pipeline: str, keys: list[str]) -> list[Row]:
    view = view_of(database, pipeline)
    return database.rows(_CHUNKS.replace("{view}", view), keys)


def view_of(database: Database, pipeline: str) -> str:
    """Return the qualified, quoted name of a pipeline's view; raises EvergreenError."""
    found = database.rows(_VIEW, pipeline)
    if not found:
        raise EvergreenError(f'pipeline "{pipeline}" has no view', "SELECT pipeline, view FROM embed_pipelines;")
    name = sql.Identifier(found[0]["nspname"], found[0]["relname"])
    return name.as_string(database.connection).replace("{", "{{").replace("}", "}}").replace("%", "%%")


def coverage(database: Database, pipeline: str) -> float | None:
    """Return the coverage of the generation that is being built, counted up to 5,000 rows."""
    found = database.rows(_COVERAGE, pipeline)
    return found[0]["coverage"] if found else None


def compare(database: Database, pipeline: str, k: int) -> list[Row]:
    """Compare the active generation with the one that is being built, by questions from a sample of rows."""
    return database.rows(_COMPARE.replace("{queries}", "NULL"), pipeline, k)


def story(database: Database, pipeline: str, key: str) -> str:
    """Return one row's story."""
    return str(database.rows(_EXPLAIN, pipeline, key)[0]["story"])
