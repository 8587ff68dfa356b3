"""The vector cache, and which texts need a model call: not those stored, cached or in flight elsewhere."""

from dataclasses import dataclass, field
from functools import partial

from evergreen import db
from evergreen.catalog import models, options
from evergreen.core.embedding import AnyVector, Texts
from evergreen.core.job import Claim
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.remote_batch import Awaited
from evergreen.core.retry import bisect
from evergreen.db.errors import is_lock_unavailable, is_undefined_table
from evergreen.db.locks import inserts_all, with_lock_timeout
from evergreen.db.queries import Query, load
from evergreen.storage import batch_spool
from evergreen.storage.chunks import vector_literal

SQL = load(__package__, "vector_cache")
#: Vectors to cache, by hash, each with the key of the row whose text it is.
ToCache = dict[bytes, tuple[AnyVector, str | None]]
_LOCK_TIMEOUT = "2ms"


@dataclass
class Resolved:
    """Texts by what to do with them.

    ``foreign``: known texts that no pipeline of the same owner has; ``in_batch``: of the texts to send.
    """

    known: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    foreign: Texts = field(default_factory=dict[bytes, str])
    send: Texts = field(default_factory=dict[bytes, str])
    elsewhere: Texts = field(default_factory=dict[bytes, str])
    in_batch: dict[bytes, Awaited] = field(default_factory=dict[bytes, Awaited])


def resolve(generation: Generation, texts: Texts, token: int, own_tokens: list[int], *, free: bool) -> Resolved:
    """Sort texts into known, to send, and in flight elsewhere.

    Texts to send are marked in flight first and looked up afterwards, in batches and then among the vectors: by then an
    earlier flight has stored its vector.
    ``free``: the model costs nothing, so a text may be in flight twice.
    """
    done = Resolved()
    if not texts:
        return done
    hashes = list(texts)
    won = set(hashes) if free else _mark(generation, hashes, token, own_tokens)
    in_batch = {} if free else batch_spool.open_texts(generation, hashes)
    found = find_vectors(generation, hashes)
    done.known.update(found.vectors)
    done.foreign = {text_hash: texts[text_hash] for text_hash in found.vectors if text_hash not in found.own}
    for text_hash, text in texts.items():
        if text_hash not in done.known:
            (done.send if text_hash in won else done.elsewhere)[text_hash] = text
    done.in_batch = {text_hash: in_batch[text_hash] for text_hash in done.send if text_hash in in_batch}
    if not free:
        clear_in_flight(generation, [text_hash for text_hash in won if text_hash in done.known], token)
    return done


def clear_in_flight(generation: Generation, hashes: list[bytes], token: int) -> None:
    """Clear the in-flight marks of texts."""
    if hashes:
        arguments = generation.model.id, hashes, token
        if with_lock_timeout(lambda: db.run(SQL.clear_in_flight_at_once, *arguments), _LOCK_TIMEOUT) is None:
            db.run(SQL.clear_in_flight, *arguments)


def clear_all_in_flight(models: list[int]) -> None:
    """Clear all in-flight marks of models: those of another server mean nothing here."""
    db.run(SQL.clear_all_in_flight, models)


def delete_model(model: int) -> None:
    """Delete the cached vectors and in-flight marks of a model."""
    db.run(SQL.delete_cache_of_model, model)


def _mark(generation: Generation, hashes: list[bytes], token: int, own_tokens: list[int]) -> set[bytes]:
    """Mark texts as in flight; return those that are now ours."""

    def claim(part: list[bytes]) -> set[bytes]:
        if db.run(SQL.mark_free_in_flight, generation.model.id, part, token) == len(part):
            return set(part)
        won = {row["hash"] for row in db.rows(SQL.marked_in_flight, generation.model.id, part, token)}
        rest = [text_hash for text_hash in part if text_hash not in won]
        taken = db.rows(SQL.take_over_in_flight, generation.model.id, rest, token, reusable) if rest else []
        return won | {row["hash"] for row in taken}

    hashes = sorted(hashes)
    if inserts_all(lambda: db.run(SQL.mark_in_flight, generation.model.id, hashes, token), len(hashes), _LOCK_TIMEOUT):
        return set(hashes)
    # A mark of our own earlier batch is stale: a text under way would not be requested here.
    reusable = [*db.value(SQL.tokens_without_worker, [*own_tokens, token]), *own_tokens]
    won = with_lock_timeout(lambda: claim(hashes), "20ms")
    if won is not None:
        return won
    # An uncommitted drain has one of them in flight: find out which.
    return {text_hash for text_hash in hashes if with_lock_timeout(partial(claim, [text_hash]), "1ms")}


@dataclass
class Found:
    """Vectors by text hash; ``own``: those in a pipeline that the calling role administers."""

    vectors: dict[bytes, AnyVector] = field(default_factory=dict[bytes, AnyVector])
    own: set[bytes] = field(default_factory=set[bytes])


def known(generation: Generation, hashes: list[bytes]) -> dict[bytes, AnyVector]:
    """Return existing vectors, stored or cached, by text hash."""
    return find_vectors(generation, hashes).vectors


def own_pipelines(pipeline_id: int, role: str | None = None) -> list[int] | None:
    """Return the pipelines that a role, or the owner of a pipeline (``role`` None), administers; None: everything.

    Other owners' vectors also save calls, but reporting that would reveal their texts. So figures and answers for roles
    other than embed_admin count only these pipelines.
    """
    ids: list[int] | None = db.value(SQL.own_pipelines, pipeline_id, role)
    return ids


def find_vectors(generation: Generation, hashes: list[bytes], role: str | None = None) -> Found:
    """Look up existing vectors; ``role``: whose pipelines count as own, see ``own_pipelines``."""
    own = own_pipelines(generation.pipeline, role)
    same = db.rows(SQL.generations_of_model, generation.model.id, generation.model.revision, generation.pipeline)
    everywhere = [(int(row["id"]), int(row["pipeline"])) for row in same]
    try:
        return _find_in(everywhere, generation, hashes, own)
    except db.DatabaseError as error:
        if not (is_lock_unavailable(error) or is_undefined_table(error)):
            raise
        here = [(generation.id, generation.pipeline)]
        return _find_in(here, generation, hashes, own)  # another pipeline's table is being dropped


def _find_in(
    generations: list[tuple[int, int]], generation: Generation, hashes: list[bytes], own: list[int] | None
) -> Found:
    schema = models.vector_schema()
    arms = (
        SQL.find_stored_vectors.with_identifiers(generation=str(g), pipeline=str(p), schema=schema).text
        for g, p in generations
    )
    query: Query = SQL.find_vectors.with_identifiers(stored="\n".join(arms), schema=schema)
    # Rolled back after reading: an open drain must not hold locks on other pipelines' tables.
    rows = db.in_discarded_subtransaction(lambda: db.rows(query, generation.model.id, hashes, own))
    return Found({row["hash"]: row["embedding"] for row in rows}, {row["hash"] for row in rows if row["is_own"]})


def drop_cached(generation: Generation, hashes: list[bytes]) -> None:
    """Delete vectors that were cached until their batch was written."""
    if hashes:
        db.run(SQL.delete_stored_from_cache.with_identifiers(table=generation.table), generation.model.id, hashes)


def cache_vectors(claim: Claim, found: ToCache, *, replaced: bool = False) -> None:
    """Cache vectors; skip those that another session is caching now.

    ``replaced``: vectors of replaced texts, which count towards ``cache_limit``.

    A pipeline that takes the vectors of whatever model is served may have some of another one: they are not cached.
    """
    tolerant = options.effective(claim.pipeline.options, "on_model_change") == "warn"
    if tolerant and claim.generation.model.served.epoch:
        return

    def attempt(hashes: list[bytes]) -> bool:
        vectors = [vector_literal(found[text_hash][0]) for text_hash in hashes]
        keys = [found[text_hash][1] for text_hash in hashes]
        try:
            db.atomically(lambda: put(claim.pipeline, claim.generation, hashes, vectors, keys, replaced=replaced))
        except db.DatabaseError as error:
            if not is_lock_unavailable(error):
                raise
            db.run(SQL.check_cache_unlocked)  # tell a locked table from a locked row
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
    query = SQL.insert_cached.with_identifiers(vector=f"{models.vector_schema()}.vector")
    db.run(query, generation.model.id, hashes, vectors, pipeline.id, keys, replaced, generation.model.revision)


def purge(retention: str) -> None:
    """Delete vectors cached for longer than an interval."""
    db.run(SQL.purge_cache, retention)


def trim(limit: int | None) -> None:
    """Delete the oldest replaced vectors beyond ``limit``; None: beyond the number of stored ones."""
    db.run(SQL.trim_cache, limit)


def purge_erased() -> None:
    """Delete records of texts erased so long ago that no late vector can arrive."""
    db.run(SQL.purge_erased)
