"""embed_submit and embed_release."""

from typing import TYPE_CHECKING

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import models, options, pipelines
from evergreen.core.document import Document, Prepared
from evergreen.core.embedding import AnyVector, Usage
from evergreen.core.errors import SuspectError, UserError
from evergreen.core.job import Claim, Lane
from evergreen.core.lazy import lazy
from evergreen.db import privileges, timeouts
from evergreen.db.privileges import as_extension_owner, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.limits import budget as budgets
from evergreen.embedding.providers.registry import provider
from evergreen.embedding.vector_checks import vector_problem
from evergreen.prepare.documents import prepare
from evergreen.queue import claims
from evergreen.storage import vector_cache
from evergreen.storage.usage import Alone
from evergreen.worker import claimed_texts, model_change
from evergreen.worker.apply import budget, fail, finish
from evergreen.worker.claimed_texts import ExternalClaim, Text
from evergreen.worker.reentrancy import not_reentrant
from evergreen.worker.result import BatchResult, Cost, Deferral

if TYPE_CHECKING:
    import numpy as np
    import orjson
else:
    np, orjson = lazy("numpy"), lazy("orjson")

SQL = load(__package__)
_HINT = "Pass one vector for each hash."
_READ_TIMEOUT_S = 5.0  # seconds to wait for the source to be read
#: Vectors as pgvector writes them, by hash of their text.
VectorTexts = dict[bytes, str]
_MAX_ERROR_LENGTH = 2000  # characters of an error


@sql_entry
def embed_submit(
    pipeline: str | None,
    token: int | None,
    hashes: list[bytes | None] | None,
    vectors: list[str | None] | None,
    tokens: int | None,
) -> int:
    """Store vectors; return the number of rows brought up to date. Raises 25001, 22004, 22023, 2202E, 42704, 55P03."""
    privileges.check_isolation("embed_submit")
    given = _by_hash(*options.paired_arrays(("hashes", "vectors"), hashes, vectors, _HINT))
    if tokens is not None and tokens < 0:
        raise UserError(f"tokens must not be negative, but is {tokens}", hint="Leave it out to have them estimated.")

    def submit() -> int:
        found = claimed_texts.find(pipelines.named(pipeline), token)
        if found is None:
            return 0
        with timeouts.time_limit(_READ_TIMEOUT_S), db.planning.prefer_indexes():
            return _Submission(found, given, tokens).apply()

    with not_reentrant("embed_submit"):
        return as_extension_owner(submit)


def _by_hash(hashes: list[bytes], vectors: list[str]) -> VectorTexts:
    given: VectorTexts = {}
    for text_hash, vector in zip(hashes, vectors, strict=True):
        if given.setdefault(text_hash, vector) != vector:
            raise UserError(f"hash \\x{text_hash.hex()} occurs twice with different vectors", hint=_HINT)
    return given


class _Submission:
    """Vectors for a claim. The rows are read again under their jobs' locks, so the current rows are written."""

    def __init__(self, claim: ExternalClaim, given: VectorTexts, tokens: int | None) -> None:
        self._claim = claim
        self._texts = claimed_texts.texts(claim, [*given])
        self._vectors = _parsed(claim, given)
        self._billed_tokens = tokens

    def apply(self) -> int:
        """Write complete rows, cache the other vectors; return the number of rows brought up to date."""
        claimed = self._claim
        new = [text for text in self._texts.values() if not text.received]
        db.run(SQL.mark_received, claimed.token, [*self._texts])
        _check_model(claimed)
        still_open = claimed_texts.open_texts(claimed)
        result = self._result()
        self._look_up(result)
        self._release_changed(result, still_open)
        result.marked.update(self._texts)
        result.cached.update(self._cached(result))
        estimated = sum(text.tokens for text in new)
        if new:
            result.cost = self._cost(len(new), estimated)
        done = finish(result, ends_claim=False)
        spent = result.cost.spent.tokens
        budgets.adjust(budget(claimed.pipeline), claimed.generation.model, spent - estimated)
        self._renew(still_open)
        claimed_texts.close(claimed)
        return len(done)

    def _result(self) -> BatchResult:
        claimed = self._claim
        now = db.one(SQL.time_and_round, claimed.generation.id)
        assert now is not None
        readable = ddl_sync.follow_ddl(claimed.pipeline)
        pipeline = readable or claimed.pipeline
        generation = next((g for g in pipeline.generations if g.id == claimed.generation.id), claimed.generation)
        claim = Claim(claimed.token, pipeline, generation, Lane.LIVE, now["round"], leased=True, at=now["at"])
        owners = {text_hash: text.keys[0] for text_hash, text in self._texts.items()}
        if readable is None:  # the source cannot be read now
            return BatchResult(claim, Prepared(), {**self._vectors}, {*self._vectors}, owners=owners)
        keys = [*dict.fromkeys(key for text in self._texts.values() for key in text.keys)]
        claims.lock_and_add(claim, keys)
        prepared = prepare(claim.pipeline, generation, [*claim.jobs])
        return BatchResult(claim, prepared, {**self._vectors}, {*self._vectors}, owners=owners)

    def _look_up(self, result: BatchResult) -> None:
        """Find vectors that were received earlier or are stored elsewhere."""
        needed = {h for d in result.prepared.documents for h, _ in d.chunks if h not in result.vectors}
        if needed:
            result.vectors.update(vector_cache.known(result.claim.generation, [*needed]))

    def _release_changed(self, result: BatchResult, still_open: dict[bytes, Text]) -> None:
        """Release rows whose text has changed since the claim, and rows that did not fit in memory."""

        def is_waiting(document: Document) -> bool:
            return all(h in result.vectors or h in still_open for h, _ in document.chunks)

        keys = [*result.prepared.unread, *(d.key for d in result.prepared.documents if not is_waiting(d))]
        result.deferred.update(dict.fromkeys(keys, Deferral()))

    def _cached(self, result: BatchResult) -> set[bytes]:
        """Return the texts whose vectors are only cached until their rows are written."""
        hashes = {h for d in result.prepared.documents if result.complete(d) for h, _ in d.chunks}
        return {h for h in hashes if h not in self._texts or self._texts[h].received}

    def _cost(self, texts: int, estimated: int) -> Cost:
        billed = estimated if self._billed_tokens is None else self._billed_tokens
        return Cost(Usage(calls=1, texts=texts, tokens=billed), alone=Alone(texts=texts, tokens=estimated))

    def _renew(self, still_open: dict[bytes, Text]) -> None:
        """Renew the lease; not every time, because that writes a row for each remaining row and text."""
        claimed = self._claim
        if not claimed.is_old:
            return
        keys = [*dict.fromkeys(key for text in still_open.values() for key in text.keys)]
        claims.renew_lease(claimed.token, claimed.generation, keys, [*still_open])


def _check_model(claim: ExternalClaim) -> None:
    """Raise 55000 if another model is served than when the texts were claimed: the vectors may be of either."""
    tolerant = model_change.tolerates(claim.pipeline)
    if not (tolerant or claim.epoch is None or models.is_in_epoch(claim.generation.model, claim.epoch)):
        raise UserError(
            f'model "{claim.generation.model.name}" changed since claim {claim.token} was made',
            "55000",
            hint=f"SELECT embed_release({db.literal(claim.pipeline.name)}, {claim.token}); then claim the rows again.",
        )


def _parsed(claim: ExternalClaim, given: VectorTexts) -> dict[bytes, AnyVector]:
    """Parse the vectors; raises 22023 for wrong dimensions and for vectors without a usable distance."""
    model = claim.generation.model
    zeros = provider(model.provider).zeros
    found: dict[bytes, AnyVector] = {}
    for text_hash, text in given.items():
        if text.count(",") + 1 != model.dimensions:
            raise UserError(
                f"the vector of hash \\x{text_hash.hex()} has {text.count(',') + 1} dimensions, and model"
                f' "{model.name}" of claim {claim.token} has {model.dimensions}',
                hint="embed_claim returns the model with each text.",
            )
        vector = np.array(orjson.loads(text), dtype=np.float32)
        if wrong := vector_problem(vector, zeros=zeros):
            raise UserError(
                f'model "{model.name}" gave {wrong} for the text of hash \\x{text_hash.hex()}',
                hint=f"SELECT embed_release({db.literal(claim.pipeline.name)}, {claim.token},"
                f" ARRAY['\\x{text_hash.hex()}']::bytea[], 'bad vector'); and submit the others.",
            )
        found[text_hash] = vector
    return found


@sql_entry
def embed_release(pipeline: str | None, token: int | None, hashes: list[bytes | None] | None, error: str | None) -> int:
    """Release the rows of some or all texts; return their number. Raises 25001, 22004, 22023, 42704, 55P03."""
    privileges.check_isolation("embed_release")
    if hashes is not None and not all(isinstance(one, bytes) for one in hashes):
        raise UserError("hashes contains a NULL or a list", "22004", hint="Leave it out to release all.")

    def release() -> int:
        found = claimed_texts.find(pipelines.named(pipeline), token)
        if found is None:
            return 0
        chosen = None if hashes is None else [one for one in hashes if one is not None]
        return _release(found, chosen, error)

    return as_extension_owner(release)


def _release(claimed: ExternalClaim, hashes: list[bytes] | None, error: str | None) -> int:
    texts = _open(claimed, hashes)
    claim = Claim(claimed.token, claimed.pipeline, claimed.generation, Lane.LIVE, 0, leased=True)
    keys = [*dict.fromkeys(key for text in texts.values() for key in text.keys)]
    claims.lock_and_add(claim, keys)
    if error is None:
        claims.release_jobs(claim, [*claim.jobs])
    else:
        # Like a text refused when sent alone: the text may be the cause, or the error may pass.
        fail(claim, dict.fromkeys(claim.jobs, SuspectError(error[:_MAX_ERROR_LENGTH])))
    vector_cache.clear_in_flight(claimed.generation, [*texts], claimed.token)
    unspent = sum(text.tokens for text in texts.values())
    budgets.adjust(budget(claimed.pipeline), claimed.generation.model, -unspent)
    db.run(SQL.delete_claimed_texts, claimed.token, [*texts])
    claimed_texts.close(claimed)
    return len(claim.jobs)


def _open(claimed: ExternalClaim, hashes: list[bytes] | None) -> dict[bytes, Text]:
    """Return the chosen texts whose vectors were not received; received ones cannot be released."""
    if hashes is None:
        return claimed_texts.open_texts(claimed)
    return {h: text for h, text in claimed_texts.texts(claimed, hashes).items() if not text.received}
