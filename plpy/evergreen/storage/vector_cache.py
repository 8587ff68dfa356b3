"""Which texts need a call: not those that are live, kept, or in flight with somebody else."""

from dataclasses import dataclass, field
from functools import partial

from evergreen import db
from evergreen.catalog import models
from evergreen.core.embedding import AnyVector, Texts
from evergreen.core.job import Claim
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.retry import bisect
from evergreen.db.errors import is_lock_unavailable, is_undefined_table
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import Query, load
from evergreen.storage.chunks import literal

SQL = load(__package__)
#: Vectors to keep, by hash, each with the key of the row whose text it is.
Kept = dict[bytes, tuple[AnyVector, str | None]]


@dataclass
class Resolved:
    """Texts by what is to be done for them. ``foreign``: those of the known that no pipeline of the same owner has."""

    known: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    foreign: Texts = field(default_factory=dict[bytes, str])
    send: Texts = field(default_factory=dict[bytes, str])
    elsewhere: Texts = field(default_factory=dict[bytes, str])


def resolve(generation: Generation, texts: Texts, token: int, own_tokens: list[int], *, free: bool) -> Resolved:
    """Sort texts into known, to send, and in flight elsewhere.

    Those to send are marked in flight first and looked up after: who had them in flight before has landed them by then.
    ``free``: the model costs nothing, so a text may well be in flight twice.
    """
    done = Resolved()
    if not texts:
        return done
    hashes = list(texts)
    won = set(hashes) if free else _mark(generation, hashes, token, own_tokens)
    found = look(generation, hashes)
    done.known.update(found.vectors)
    done.foreign = {key: texts[key] for key in found.vectors if key not in found.own}
    for key, text in texts.items():
        if key not in done.known:
            (done.send if key in won else done.elsewhere)[key] = text
    if not free:
        clear_in_flight(generation, [key for key in won if key in done.known], token)
    return done


def clear_in_flight(generation: Generation, hashes: list[bytes], token: int) -> None:
    """Take texts out of flight."""
    if hashes:
        db.run(SQL.land, generation.model.id, hashes, token)


def _mark(generation: Generation, hashes: list[bytes], token: int, own_tokens: list[int]) -> set[bytes]:
    """Mark texts as in flight; return those that are now ours."""
    # A text marked by an earlier batch of ours is not under way any more, or it would not be asked for here.
    reusable = [*db.value(SQL.abandoned_tokens, [*own_tokens, token]), *own_tokens]

    def claim(part: list[bytes]) -> set[bytes]:
        won = {row["hash"] for row in db.rows(SQL.claim_texts, generation.model.id, part, token)}
        rest = [key for key in part if key not in won]
        taken = db.rows(SQL.take_over, generation.model.id, rest, token, reusable) if rest else []
        return won | {row["hash"] for row in taken}

    won = with_lock_timeout(lambda: claim(hashes), "20ms")
    if won is not None:
        return won
    # A drain that did not commit yet has one of them in flight: find out which.
    return {key for key in hashes if with_lock_timeout(partial(claim, [key]), "1ms")}


@dataclass
class Found:
    """Vectors by hash of their text; ``own``: those that a pipeline has which the asking role administers."""

    vectors: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    own: set[bytes] = field(default_factory=set[bytes])


def known(generation: Generation, hashes: list[bytes]) -> dict[bytes, AnyVector]:
    """Return the vectors that exist already, live or kept, by hash of their text."""
    return look(generation, hashes).vectors


def own_pipelines(pipeline: int, role: str | None = None) -> list[int] | None:
    """Return the pipelines that a role, or the owner of a pipeline (``role`` None), administers; None: everything.

    Vectors of others spare a call. Whoever is told so learns that another tenant has the text, so figures and answers
    for roles other than embed_admin count only what comes from these.
    """
    ids: list[int] | None = db.value(SQL.own_pipelines, pipeline, role)
    return ids


def look(generation: Generation, hashes: list[bytes], role: str | None = None) -> Found:
    """Look for vectors that exist already; ``role``: whose pipelines count as own, see ``own_pipelines``."""
    own = own_pipelines(generation.pipeline, role)
    everywhere = [(int(row["id"]), int(row["pipeline"])) for row in db.rows(SQL.model_tables, generation.model.id)]
    try:
        return _look_into(everywhere, generation, hashes, own)
    except db.DatabaseError as error:
        if not (is_lock_unavailable(error) or is_undefined_table(error)):
            raise
        here = [(generation.id, generation.pipeline)]
        return _look_into(here, generation, hashes, own)  # another pipeline's table is being dropped


def _look_into(
    generations: list[tuple[int, int]], generation: Generation, hashes: list[bytes], own: list[int] | None
) -> Found:
    schema = models.vector_schema()
    arms = (SQL.live_arm.on(generation=str(g), pipeline=str(p), schema=schema).text for g, p in generations)
    query: Query = SQL.look_up.on(live="\n".join(arms), schema=schema)
    # Undone after reading: an open drain must not keep a lock on the tables of other pipelines.
    rows = db.in_discarded_subtransaction(lambda: db.rows(query, generation.model.id, hashes, own))
    return Found({row["hash"]: row["embedding"] for row in rows}, {row["hash"] for row in rows if row["is_own"]})


def drop_kept(generation: Generation, hashes: list[bytes]) -> None:
    """Drop what was kept until its batch was written, and is live now."""
    if hashes:
        db.run(SQL.drop_kept.on(table=generation.table), generation.model.id, hashes)


def keep(claim: Claim, found: Kept, *, replaced: bool = False) -> None:
    """Keep vectors for later. One that another session is keeping just now needs no second copy.

    ``replaced``: of texts that were live, for which ``cache_limit`` holds.
    """

    def attempt(hashes: list[bytes]) -> bool:
        vectors = [literal(found[key][0]) for key in hashes]
        keys = [found[key][1] for key in hashes]
        try:
            db.atomically(lambda: put(claim.pipeline, claim.generation, hashes, vectors, keys, replaced=replaced))
        except db.DatabaseError as error:
            if not is_lock_unavailable(error):
                raise
            db.run(SQL.check_cache_unlocked)  # a locked table is not a vector that another session is keeping
            return False
        return True

    bisect(list(found), attempt)


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
