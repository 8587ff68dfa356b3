"""Write, remove and compare stored documents."""

from collections import defaultdict, deque
from collections.abc import Container, Iterable, Sequence

from evergreen import db
from evergreen.catalog import models
from evergreen.core.document import Document
from evergreen.core.embedding import AnyVector
from evergreen.core.frozen import frozen
from evergreen.core.job import Claim
from evergreen.db.arrays import columns
from evergreen.db.queries import Query, load
from evergreen.storage import new_documents
from evergreen.storage.chunks import Added, add
from evergreen.storage.vector_cache import ToCache

SQL = load(__package__)


@frozen
class StoredChunk:
    """A stored chunk."""

    id: int
    chunk_no: int
    hash: bytes


@frozen
class Diff:
    """Changes to a document: ``keep`` stored ids under a chunk_no, ``drop`` stored ids, ``add`` wanted chunk_nos."""

    keep: tuple[tuple[int, int], ...]
    drop: tuple[int, ...]
    add: tuple[int, ...]


def diff(stored: Iterable[StoredChunk], wanted: Sequence[bytes]) -> Diff:
    """Match each wanted hash to a stored chunk of that hash, preferably one already in place."""
    stored = list(stored)
    if not stored:
        return Diff((), (), tuple(range(len(wanted))))
    keep: dict[int, int] = {}
    free: defaultdict[bytes, deque[StoredChunk]] = defaultdict(deque)
    in_place: dict[tuple[bytes, int], StoredChunk] = {}
    for chunk in stored:
        if in_place.setdefault((chunk.hash, chunk.chunk_no), chunk) is not chunk:
            free[chunk.hash].append(chunk)
    rest: list[int] = []
    for number, wanted_hash in enumerate(wanted):
        chunk = in_place.pop((wanted_hash, number), None)
        if chunk is None:
            rest.append(number)
        else:
            keep[chunk.id] = number
    for chunk in in_place.values():
        free[chunk.hash].append(chunk)
    add: list[int] = []
    for number in rest:
        candidates = free[wanted[number]]
        if candidates:
            keep[candidates.popleft().id] = number
        else:
            add.append(number)
    drop = tuple(chunk.id for chunks in free.values() for chunk in chunks)
    return Diff(tuple(keep.items()), drop, tuple(add))


def write(claim: Claim, documents: list[Document], vectors: dict[bytes, AnyVector], before: Container[str]) -> ToCache:
    """Write documents and the chunks that changed; return the vectors no longer in use.

    ``vectors``: by hash, one for each text of the documents; ``before``: the keys that had a document when they were
    prepared.
    """
    if not documents:
        return {}
    ids = _put(claim, documents, before)
    stored = _stored_chunks(claim, [ids[d.key] for d in documents if d.key in before])
    changes = [(ids[d.key], d, diff(stored[ids[d.key]], [text_hash for text_hash, _ in d.chunks])) for d in documents]
    dropped = _drop(claim, changes)
    _keep(claim, changes)
    _add(claim, changes, vectors)
    return dropped


def _put(claim: Claim, documents: list[Document], before: Container[str]) -> dict[str, int]:
    """Insert or update documents; return their ids by key."""
    new = [d for d in documents if d.key not in before]
    ids = (new_documents.insert(claim, new) if new else None) or {}
    rest = [d for d in documents if d.key not in ids]
    if rest:
        put = db.rows(
            SQL.upsert_documents,
            claim.generation.id,
            [d.key for d in rest],
            [d.fingerprint for d in rest],
            [d.src_hash for d in rest],
            [len(d.chunks) for d in rest],
            [claim.jobs[d.key].changed_at for d in rest],
        )
        ids.update({row["key"]: int(row["id"]) for row in put})
    return ids


def _stored_chunks(claim: Claim, documents: list[int]) -> dict[int, list[StoredChunk]]:
    found: defaultdict[int, list[StoredChunk]] = defaultdict(list)
    if documents:
        for row in db.rows(SQL.stored_chunks.with_identifiers(table=claim.generation.table), documents):
            found[row["document"]].append(StoredChunk(row["id"], row["chunk_no"], row["chunk_hash"]))
    return found


Changes = list[tuple[int, Document, Diff]]


def _drop(claim: Claim, changes: Changes) -> ToCache:
    dropped = [(document, chunk) for document, _, d in changes for chunk in d.drop]
    return _vectors(db.rows(on_table(SQL.delete_chunks, claim), *columns(dropped))) if dropped else {}


def _keep(claim: Claim, changes: Changes) -> None:
    kept = [(i, chunk, number, d.fingerprint, d.src_hash) for i, d, found in changes for chunk, number in found.keep]
    if kept:
        db.run(
            SQL.update_chunks.with_identifiers(table=claim.generation.table),
            *columns(kept),
            claim.generation.model.name,
        )


def _add(claim: Claim, changes: Changes, vectors: dict[bytes, AnyVector]) -> None:
    added = [
        Added(document, number, text_hash, text, vectors[text_hash], d)
        for document, d, found in changes
        for number in found.add
        for text_hash, text in (d.chunks[number],)
    ]
    add(claim.pipeline, claim.generation, added)


def recount(pipeline_id: int) -> None:
    """Count documents that were restored while triggers were disabled."""
    db.run(SQL.recount_documents, pipeline_id)


def advance_ids() -> None:
    """Move the sequence of document ids past the existing ones."""
    db.value(SQL.advance_document_ids)


def delete_all(generations: list[int]) -> None:
    """Delete all documents of generations; their tables are dropped separately."""
    db.run(SQL.delete_documents_of_generations, generations)


def locked_elsewhere(claim: Claim, keys: list[str]) -> set[str]:
    """Lock the documents of these keys; return the keys whose document another session has locked."""
    return {row["key"] for row in db.rows(SQL.locked_elsewhere, claim.generation.id, keys)} if keys else set()


def remove(claim: Claim, keys: list[str]) -> ToCache:
    """Remove the documents of deleted rows; return their vectors."""
    return _drop_chunks(claim, db.rows(SQL.delete_documents, claim.generation.id, keys)) if keys else {}


def empty(claim: Claim, keys: list[str]) -> ToCache:
    """Remove the chunks of dead letters, which belong to an earlier text; return their vectors."""
    return _drop_chunks(claim, db.rows(SQL.empty_documents, claim.generation.id, keys)) if keys else {}


def _drop_chunks(claim: Claim, documents: list[db.Row]) -> ToCache:
    return _vectors(db.rows(on_table(SQL.delete_chunks_of_documents, claim), [row["id"] for row in documents]))


def _vectors(chunks: list[db.Row]) -> ToCache:
    return {row["hash"]: (row["embedding"], row["key"]) for row in chunks}


def on_table(query: Query, claim: Claim) -> Query:
    """Return a query with the generation's table and pgvector's schema in it."""
    return query.with_identifiers(table=claim.generation.table, schema=models.vector_schema())
