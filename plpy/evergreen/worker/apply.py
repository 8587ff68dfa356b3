"""Apply: write what was embedded, under the lease it was claimed with, in one burst."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

from evergreen import db
from evergreen.core.document import BatchResult
from evergreen.core.errors import ModelError
from evergreen.core.job import Claim
from evergreen.db.queries import load
from evergreen.queue import claims
from evergreen.queue.backfill import was_restarted
from evergreen.queue.claims import finish_jobs
from evergreen.queue.failures import Failures
from evergreen.storage import usage
from evergreen.storage.chunks import reject_unfit
from evergreen.storage.documents import empty, remove, write
from evergreen.storage.vector_cache import Kept, cache, text_owners

SQL = load(__package__)
_HELD = 0.2  # seconds until a document that another session holds is tried again


def apply(result: BatchResult) -> list[str]:
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


def _apply(result: BatchResult) -> list[str]:
    claim, prepared = result.claim, result.prepared
    is_swept = was_restarted(claim)
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
    write(result, documents)
    written = {key for document in documents for key, _ in document.chunks}
    cache(claim, _sent(result, result.sent - written))
    fail(claim, {key: error for key, error in prepared.failures.items() if key in ours})
    done = [*fresh, *removed, *(document.key for document in documents)]
    usage.record_lag(claim, done)
    finish_jobs(claim, done, again=is_swept)
    return done


def fail(claim: Claim, failures: dict[str, ModelError]) -> None:
    """Record what went wrong for keys of a claim; of a dead letter no chunk of an earlier text is left."""
    empty(claim, Failures(claim).record(failures))


def _put_back_held(claim: Claim, keys: list[str]) -> set[str]:
    """Put back the keys whose document an embed_verify(repair) holds that is still open: the others need not wait."""
    held = {row["key"] for row in db.rows(SQL.held_documents, claim.generation.id, keys)} if keys else set[str]()
    claims.release_jobs(claim, [*held], _HELD)
    return held


def _sent(result: BatchResult, hashes: set[bytes]) -> Kept:
    owners = text_owners(result)
    return {h: (result.vectors[h], owners.get(h)) for h in hashes if h in result.vectors}
