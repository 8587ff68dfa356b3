"""embed_estimate: what a drain would cost now."""

from dataclasses import astuple, dataclass, field

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import options, pipelines
from evergreen.core import text as tokens
from evergreen.core.embedding import Texts
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.batches.history import api_of, share_of_price
from evergreen.embedding.batching import CostEstimate, Workload, estimate_cost, in_batches, pack
from evergreen.embedding.providers.registry import provider
from evergreen.prepare.documents import prepare
from evergreen.queue import claims
from evergreen.source import reader
from evergreen.storage import vector_cache

SQL = load(__package__)
_LOOKED_AT = 5000  # keys; of more than these the rest is taken to be like them
_SLICE = 1000  # as many as a claim has: texts of two claims do not share a request


@sql_entry
def embed_estimate(pipeline: str | None) -> list[tuple[int, int, int, float | None, float, int, float | None]]:
    """Return (texts, tokens, calls, cost, seconds, batch_texts, batch_cost) as one row; raises 42704, 42501, 55000."""
    role = caller()

    def estimate() -> CostEstimate:
        found = ddl_sync.follow_ddl(pipelines.owned(pipeline, role))
        if found is None:
            raise UserError(
                f'the source of pipeline "{pipeline}" cannot be read',
                "55000",
                hint="SELECT last_error FROM embed_status;",
            )
        seen: dict[int, set[bytes]] = {}
        return sum((_of(found, g, seen.setdefault(g.model.id, set()), role) for g in found.generations), CostEstimate())

    return [astuple(as_extension_owner(estimate))]


def _of(pipeline: Pipeline, generation: Generation, seen: set[bytes], role: str) -> CostEstimate:
    """Estimate the cost of one generation. ``seen``: texts that another generation of the same model sends already.

    ``role``: the caller; texts that only other owners' pipelines have embedded count as if they were sent.
    """
    waiting = _waiting(pipeline, generation)
    loads = {False: Workload(), True: Workload()}  # by whether it is history
    for start in range(0, len(waiting.keys), _SLICE):
        keys = waiting.keys[start : start + _SLICE]
        for is_history, work in loads.items():
            part = [key for key in keys if (key in waiting.history) == is_history]
            _add(work, pipeline, generation, part, seen, role)
        db.check_interrupts()
    if waiting.total > len(waiting.keys) > 0:
        loads = {of: work.times(waiting.total / len(waiting.keys)) for of, work in loads.items()}
    chosen = provider(generation.model.provider)
    least = int(options.effective(pipeline.options, "batch_min_texts"))
    if api_of(pipeline, generation) is None or chosen.free or loads[True].texts < least:
        every = loads[False].plus(loads[True])
        return estimate_cost(generation.model, every, chosen.limits(generation.model), free=chosen.free)
    load = loads[False].plus(Workload(rows=loads[True].rows))
    by_requests = estimate_cost(generation.model, load, chosen.limits(generation.model), free=False)
    return by_requests + in_batches(generation.model, loads[True], share_of_price(generation))


@dataclass
class _Waiting:
    """Keys to prepare, and how many wait in total."""

    keys: list[str] = field(default_factory=list[str])
    total: int = 0
    history: set[str] = field(default_factory=set[str])  # of these keys


def _waiting(pipeline: Pipeline, generation: Generation) -> _Waiting:
    """Return the queued keys, then the rest of a running backfill; without keys that a worker has claimed."""
    live = claims.tokens_with_worker(generation)
    queued = {
        row["key"]: row["is_history"]
        for row in db.rows(SQL.queued_keys, generation.id, pipeline.id, live, _LOOKED_AT + 1)
    }
    keys = [*queued]
    waiting = _Waiting(keys[:_LOOKED_AT], len(keys), {key for key in keys if queued[key]})
    if len(keys) > _LOOKED_AT:
        waiting.total = db.value(SQL.count_queued_keys, generation.id, pipeline.id, live)
    cursor = db.one(SQL.backfill_cursor, generation.id, pipeline.id)
    if cursor is not None:
        known = {*keys, *(row["key"] for row in db.rows(SQL.claimed_keys, generation.id, live))}
        _walk(pipeline, generation, cursor, waiting, known)
    return waiting


def _walk(pipeline: Pipeline, generation: Generation, cursor: db.Row, waiting: _Waiting, known: set[str]) -> None:
    after: str | None = cursor["position"]
    while room := _LOOKED_AT - len(waiting.keys):
        limit = min(room, _SLICE)
        page = _page(pipeline, after, limit)
        new = [key for key in page if key not in known]
        waiting.keys += new
        waiting.history.update(new)
        waiting.total += len(new)
        if len(page) < limit:
            return
        after = page[-1]
    # The end was not reached. In a first backfill, rows with a document are done; in a later round nothing is known.
    done = db.value(SQL.estimated_documents, generation.id) if cursor["is_first"] else 0
    rows = db.in_discarded_subtransaction(lambda: int(db.value(SQL.estimated_rows, pipeline.source)))
    waiting.total = max(waiting.total, rows - int(done))


def _page(pipeline: Pipeline, after: str | None, limit: int) -> list[str]:
    return reader.with_source_locked(pipeline, lambda: reader.scan(pipeline, after, limit))


def _add(
    load: Workload, pipeline: Pipeline, generation: Generation, keys: list[str], seen: set[bytes], role: str
) -> None:
    """Prepare keys as a worker would, and add what would be sent to the model."""
    load.rows += len(keys)
    while keys:
        prepared = prepare(pipeline, generation, keys)
        texts: Texts = {h: text for d in prepared.documents for h, text in d.chunks if h not in seen}
        hashes = list(texts)
        there = {*vector_cache.find_vectors(generation, hashes, role).own, *_under_way(generation, hashes, role)}
        send: Texts = {h: text for h, text in texts.items() if h not in there}
        seen.update(send)
        load.texts += len(send)
        load.tokens += sum(tokens.estimate_tokens(text) for text in send.values())
        load.calls += sum(1 for _ in pack(send, provider(generation.model.provider).limits(generation.model)))
        keys = prepared.unread


def _under_way(generation: Generation, hashes: list[bytes], role: str) -> list[bytes]:
    """Return the texts that are in flight, or in a batch."""
    given = generation.model.id, hashes, vector_cache.own_pipelines(generation.pipeline, role)
    found = [*db.rows(SQL.texts_in_flight, *given), *db.rows(SQL.texts_in_batches, *given)]
    return [row["hash"] for row in found]
