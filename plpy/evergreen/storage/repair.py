"""Repairs of embed_verify; a row that another session is writing is left to that session."""

from evergreen import db
from evergreen.core.pipeline import Generation
from evergreen.db.queries import load

SQL = load(__package__)


def delete_damaged(generation: Generation, damaged: list[tuple[int, int]]) -> None:
    """Delete chunks, by document and id, that do not match the values stored with them; a drain recreates them."""
    if damaged:
        documents, ids = zip(*damaged, strict=True)
        db.run(SQL.delete_damaged_chunks.with_identifiers(table=generation.table), list(documents), list(ids))


def orphaned_keys(generation: Generation) -> list[str]:
    """Return the keys of chunks without a document."""
    query = SQL.keys_of_orphaned_chunks.with_identifiers(table=generation.table)
    return [row["key"] for row in db.rows(query, generation.id)]


def delete_orphaned(generation: Generation) -> None:
    """Delete chunks without a document."""
    db.run(SQL.delete_unlocked_orphaned_chunks.with_identifiers(table=generation.table), generation.id)


def mark_stale(generation: Generation, keys: list[str]) -> int:
    """Mark the documents of these keys as stale; return how many."""
    return db.run(SQL.mark_documents_stale, generation.id, keys)
