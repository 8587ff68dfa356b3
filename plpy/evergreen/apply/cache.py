"""Keep vectors of texts that are no longer live, or that came too late."""

from pathlib import Path

from evergreen import db
from evergreen.apply.vectors import Known, literal
from evergreen.catalog import models
from evergreen.queries import load
from evergreen.schedule.claim import Claim

SQL = load(str(Path(__file__).with_name("write.py")))

#: Vectors to keep, by hash, each with the key of the row whose text it is.
Kept = dict[bytes, tuple[Known, str | None]]


def cache(claim: Claim, found: Kept, *, replaced: bool = False) -> None:
    """Keep vectors for later. One that another session is keeping just now needs no second copy.

    ``replaced``: of texts that were live, for which ``cache_limit`` holds.
    """
    if not found:
        return
    query = SQL.cache.on(vector=f"{models.vector_schema()}.vector")
    hashes = list(found)
    vectors, keys = [literal(vector) for vector, _ in found.values()], [key for _, key in found.values()]
    try:
        db.atomically(
            lambda: db.run(query, claim.generation.model.id, hashes, vectors, claim.pipeline.id, keys, replaced)
        )
    except db.DatabaseError as error:
        if db.sqlstate(error) != "55P03":
            raise
        if len(hashes) > 1:
            middle = len(hashes) // 2
            cache(claim, {h: found[h] for h in hashes[:middle]}, replaced=replaced)
            cache(claim, {h: found[h] for h in hashes[middle:]}, replaced=replaced)
