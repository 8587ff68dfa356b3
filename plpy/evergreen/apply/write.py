"""Apply: write what was embedded, under the lease it was claimed with, in one burst."""

import gc
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from evergreen import db
from evergreen.apply import lag
from evergreen.apply.add import Added, add
from evergreen.apply.cache import Kept, cache
from evergreen.apply.diff import Diff, StoredChunk, diff
from evergreen.apply.failures import Failures
from evergreen.apply.precision import reject_unfit
from evergreen.apply.remove import empty, on_table, remove
from evergreen.apply.vectors import Known
from evergreen.prepare.documents import Document, Prepared
from evergreen.queries import load
from evergreen.schedule import claim as claims
from evergreen.schedule.claim import Claim

SQL = load(__file__)

_HELD = 0.2  # seconds until a document that another session holds is tried again


@dataclass
class Result:
    """What came of a claim: what was prepared, the vectors of its texts, and what went wrong."""

    claim: Claim
    prepared: Prepared
    vectors: dict[bytes, Known] = field(default_factory=dict[bytes, Known])
    sent: set[bytes] = field(default_factory=set[bytes])
    postponed: set[str] = field(default_factory=set[str])  # keys given back, because a text is in flight elsewhere
    owners: dict[bytes, str] = field(default_factory=dict[bytes, str])  # whose a text is, beside those prepared
    lost: bool = False  # some job was locked by somebody else when it was to be finished

    def complete(self, document: Document) -> bool:
        """True when every text of a document has its vector."""
        return all(key in self.vectors for key, _ in document.chunks)


def apply(result: Result) -> list[str]:
    """Write a result; return the keys of the source rows that are up to date now.

    The jobs are locked first and looked at again in later statements: a claim that was lost meanwhile writes nothing,
    and its vectors go to the cache.
    """
    with _no_collection():
        return _apply(result)


@contextmanager
def _no_collection() -> Generator[None]:
    """No search for cycles meanwhile: a burst makes tens of thousands of objects and no cycle, and it took a tenth."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _apply(result: Result) -> list[str]:
    claim, prepared = result.claim, result.prepared
    is_swept = _is_swept(claim)
    given_back = {*prepared.unread, *result.postponed}
    keys = [key for key in claim.jobs if key not in given_back]
    ours = {row["key"] for row in db.rows(SQL.lock_jobs, claim.generation.id, claim.token, keys)}
    result.lost = result.lost or len(ours) < len(keys)
    ours -= _put_back_held(claim, [key for key in ours if key in prepared.stored])
    prepared.failures.update(reject_unfit(claim, prepared.documents, result.vectors))
    documents = [d for d in prepared.documents if d.key in ours and result.complete(d)]
    removed = [key for key in prepared.removed if key in ours]
    fresh = [key for key in prepared.fresh if key in ours]
    remove(claim, removed)
    _write(result, documents)
    written = {key for document in documents for key, _ in document.chunks}
    cache(claim, _sent(result, result.sent - written))
    given_up = Failures(claim).record({key: error for key, error in prepared.failures.items() if key in ours})
    empty(claim, given_up)
    done = [*fresh, *removed, *(document.key for document in documents)]
    lag.record(claim, done)
    _finish(claim, done, again=is_swept)
    return done


def _put_back_held(claim: Claim, keys: list[str]) -> set[str]:
    """Put back the keys whose document an embed_verify(repair) holds that is still open: the others need not wait."""
    held = {row["key"] for row in db.rows(SQL.held_documents, claim.generation.id, keys)} if keys else set[str]()
    claims.put_back(claim, [*held], _HELD)
    return held


def _is_swept(claim: Claim) -> bool:
    """Tell whether all rows may have gone since the claim: what is written now, the cursor may have passed already."""
    return db.value(SQL.hold_round, claim.generation.id) != claim.round


def keep(result: Result, vectors: dict[bytes, Known]) -> None:
    """Keep vectors that were paid for, although they cannot be written now."""
    owners = _owners(result)
    cache(result.claim, {key: (vector, owners.get(key)) for key, vector in vectors.items()})


def drop_kept(result: Result, hashes: list[bytes]) -> None:
    """Drop what was kept until the batch was written, and is live now."""
    if hashes:
        generation = result.claim.generation
        db.run(SQL.drop_kept.on(table=generation.table), generation.model.id, hashes)


def _owners(result: Result) -> dict[bytes, str]:
    """Return whose a text is, by hash."""
    prepared = {h: document.key for document in result.prepared.documents for h, _ in document.chunks}
    return {**result.owners, **prepared}


def _sent(result: Result, hashes: set[bytes]) -> Kept:
    owners = _owners(result)
    return {h: (result.vectors[h], owners.get(h)) for h in hashes if h in result.vectors}


def _write(result: Result, documents: list[Document]) -> None:
    if not documents:
        return
    claim = result.claim
    put = db.rows(
        SQL.put_documents,
        claim.generation.id,
        [d.key for d in documents],
        [d.fingerprint for d in documents],
        [d.src_hash for d in documents],
        [len(d.chunks) for d in documents],
        [claim.jobs[d.key].changed_at for d in documents],
    )
    ids = {row["key"]: int(row["id"]) for row in put}
    stored = _stored_chunks(claim, [ids[d.key] for d in documents if d.key in result.prepared.stored])
    changes = [(ids[d.key], d, diff(stored[ids[d.key]], [key for key, _ in d.chunks])) for d in documents]
    _drop(claim, changes)
    _keep(claim, changes)
    _add(result, changes)


def _stored_chunks(claim: Claim, documents: list[int]) -> dict[int, list[StoredChunk]]:
    found: defaultdict[int, list[StoredChunk]] = defaultdict(list)
    if documents:
        for row in db.rows(SQL.stored_chunks.on(table=claim.generation.table), documents):
            found[row["document"]].append(StoredChunk(row["id"], row["chunk_no"], row["chunk_hash"]))
    return found


Changes = list[tuple[int, Document, Diff]]


def _drop(claim: Claim, changes: Changes) -> None:
    dropped = [(document, chunk) for document, _, d in changes for chunk in d.drop]
    if dropped:
        gone = db.rows(on_table(SQL.drop_chunks, claim), *_columns(dropped, 2))
        cache(claim, {row["hash"]: (row["embedding"], row["key"]) for row in gone}, replaced=True)


def _keep(claim: Claim, changes: Changes) -> None:
    kept = [(i, chunk, number, d.fingerprint, d.src_hash) for i, d, found in changes for chunk, number in found.keep]
    if kept:
        db.run(SQL.keep_chunks.on(table=claim.generation.table), *_columns(kept, 5), claim.generation.model.name)


def _add(result: Result, changes: Changes) -> None:
    added = [
        Added(document, number, key, text, result.vectors[key], d)
        for document, d, found in changes
        for number in found.add
        for key, text in (d.chunks[number],)
    ]
    add(result.claim.pipeline, result.claim.generation, added)


def _columns(rows: Iterable[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _finish(claim: Claim, keys: list[str], *, again: bool) -> None:
    """End jobs; those that changed meanwhile, or all with ``again``, are queued once more."""
    if not keys:
        return
    if again:
        db.run(SQL.requeue, claim.generation.id, claim.token, keys, claim.at)
        return
    changes = [claim.jobs[key].changes for key in keys]
    finished = {row["key"] for row in db.rows(SQL.finish, claim.generation.id, claim.token, keys, changes)}
    db.run(SQL.forgive, claim.generation.id, keys)
    changed = [key for key in keys if key not in finished]
    if changed:
        db.run(SQL.requeue, claim.generation.id, claim.token, changed, claim.at)
