"""Erases what is stored of one row, for embed_forget."""

from collections.abc import Iterable

from evergreen import db
from evergreen.catalog import models
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.queries import load
from evergreen.storage import vector_cache

SQL = load(__package__)


def erase(generation: Generation, key: str, token: int | None, current: Iterable[bytes]) -> int:
    """Erase a row's texts and vectors; return how many texts.

    ``token``: the claim that held the row; which of its texts in flight are the row's is no longer known. ``current``:
    hashes of the texts that the row has now, whose vectors may be cached from an earlier time.
    """
    query = SQL.erase_chunks.with_identifiers(table=generation.table)
    hashes = [row["hash"] for row in db.rows(query, generation.id, key)]
    claimed = [row["hash"] for row in db.rows(SQL.texts_of_claim, generation.model.id, token)]
    _clear_cache(generation, {*hashes, *current, *claimed})
    db.run(SQL.erase_in_flight, generation.model.id, hashes, token)
    db.run(SQL.delete_document, generation.id, key)
    return len(hashes)


def _clear_cache(generation: Generation, hashes: Iterable[bytes]) -> None:
    """Delete vectors from the cache, and keep late ones out.

    Until this transaction ends, a placeholder, inserted and deleted, keeps other sessions from caching the vector;
    after the commit embed.erased_text does.
    """
    given = [generation.model.id, sorted(hashes)]
    db.run(SQL.insert_cache_placeholders.with_identifiers(vector=f"{models.vector_schema()}.vector"), *given)
    db.run(SQL.delete_cached, *given)
    db.run(SQL.insert_erased_texts, *given)
    vector_cache.purge_erased()


def erase_cached(pipeline: Pipeline, key: str) -> None:
    """Delete the cached vectors of texts that the row had earlier."""
    db.run(SQL.delete_cached_of_row, pipeline.id, key)
