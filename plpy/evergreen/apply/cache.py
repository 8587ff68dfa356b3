"""Keep vectors of texts that are no longer live, or that came too late."""

from evergreen import db
from evergreen.apply.vectors import Known, literal
from evergreen.catalog import models
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.queries import load
from evergreen.schedule.claim import Claim

SQL = load(__file__)

#: Vectors to keep, by hash, each with the key of the row whose text it is.
Kept = dict[bytes, tuple[Known, str | None]]


def cache(claim: Claim, found: Kept, *, replaced: bool = False) -> None:
    """Keep vectors for later. One that another session is keeping just now needs no second copy.

    ``replaced``: of texts that were live, for which ``cache_limit`` holds.
    """
    if not found:
        return
    hashes = list(found)
    vectors, keys = [literal(vector) for vector, _ in found.values()], [key for _, key in found.values()]
    try:
        db.atomically(lambda: put(claim.pipeline, claim.generation, hashes, vectors, keys, replaced=replaced))
    except db.DatabaseError as error:
        if db.sqlstate(error) != "55P03":
            raise
        if len(hashes) > 1:
            middle = len(hashes) // 2
            cache(claim, {h: found[h] for h in hashes[:middle]}, replaced=replaced)
            cache(claim, {h: found[h] for h in hashes[middle:]}, replaced=replaced)


def put(
    pipeline: Pipeline,
    generation: Generation,
    hashes: list[bytes],
    vectors: list[str],
    keys: list[str | None],
    *,
    replaced: bool = False,
) -> None:
    """Store vectors, as pgvector writes them, by the hashes of their texts; ``keys``: the rows of these texts."""
    query = SQL.cache.on(vector=f"{models.vector_schema()}.vector")
    db.run(query, generation.model.id, hashes, vectors, pipeline.id, keys, replaced)


def purge(retention: str) -> None:
    """Drop vectors that were kept longer than an interval."""
    db.run(SQL.purge_cache, retention)


def trim(limit: int | None) -> None:
    """Drop the oldest vectors of replaced texts where there are more than ``limit``; None: more than are live."""
    db.run(SQL.trim_cache, limit)


def purge_erased() -> None:
    """Forget what was erased so long ago that no late vector of it can come any more."""
    db.run(SQL.purge_erased)
