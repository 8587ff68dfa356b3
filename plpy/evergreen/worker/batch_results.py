"""Files the results of a batch: each vector goes to the cache as its text leaves the batch, in one transaction."""

from collections.abc import Iterable
from dataclasses import replace

from evergreen import db
from evergreen.catalog import models, pipelines
from evergreen.core.embedding import Vector
from evergreen.core.errors import RetryableError
from evergreen.core.job import Claim, Lane
from evergreen.core.pipeline import Generation, Model, Pipeline
from evergreen.core.remote_batch import BatchOfTexts
from evergreen.core.text import pluralize
from evergreen.db import event_log
from evergreen.embedding.batches.protocol import BatchResult
from evergreen.embedding.batches.registry import discount
from evergreen.embedding.limits import budget as budgets
from evergreen.queue import claims
from evergreen.storage import batch_spool, remote_batches, usage, vector_cache
from evergreen.storage.remote_batches import Counted
from evergreen.worker.apply import budget

_CHANGED = "the model changed while the batch was under way: its vectors are not used"


def file(batch: BatchOfTexts, model: Model, results: Iterable[BatchResult]) -> bool:
    """File results; return False if another session has the batch. Results of texts that are not awaited are ignored.

    A text whose result is an error stays in the batch; when that ends, its rows are embedded by requests.
    """
    if not remote_batches.is_owned(batch):
        return False
    by_hash = {text_hash: one for one in results if (text_hash := _hash(one)) is not None}
    awaited = {row["hash"]: row for row in remote_batches.awaited_texts(batch, [*by_hash])}
    good = {h: by_hash[h].vector for h in awaited if by_hash[h].vector is not None}
    failed = [by_hash[h].error for h in awaited if h not in good]
    is_current = models.is_in_epoch(model, batch.epoch)  # before the vectors are written, see model_change
    pipeline = pipelines.by_id(batch.pipeline)
    if pipeline is not None and is_current:
        _cache(batch, pipeline, {h: (v, awaited[h]["key"]) for h, v in good.items() if v is not None})
    remote_batches.delete_texts(batch, [*good])
    tokens = sum(_tokens(by_hash[h], awaited[h]["tokens"]) for h in good)
    estimated = sum(int(awaited[h]["tokens"]) for h in good)
    why = next((error.log_message or str(error) for error in failed if error is not None), None)
    full, price = model.price, price_of(model)
    cost = None if price is None else tokens * price
    alone = None if price is None else estimated * price
    saved = None if full is None or cost is None else tokens * full - cost
    new = Counted(len(good), len(failed), tokens, cost, saved, alone, why if is_current else _CHANGED)
    remote_batches.count(batch, new)
    if pipeline is not None:
        usage.record_batch(pipeline.id, model.id, len(good), tokens, cost, (len(good), estimated, alone))
    return True


def _hash(result: BatchResult) -> bytes | None:
    try:
        return bytes.fromhex(result.custom_id or "") or None
    except ValueError:
        return None


def _tokens(result: BatchResult, estimated: int) -> int:
    return result.tokens if result.tokens is not None else estimated


def price_of(model: Model) -> float | None:
    """Return what a token costs in a batch."""
    if model.price is None or model.endpoint is None:
        return model.price
    return model.price * (1 - discount(model.endpoint))


def _cache(batch: BatchOfTexts, pipeline: Pipeline, vectors: dict[bytes, tuple[Vector, str | None]]) -> None:
    generation = batch_spool.sibling(pipeline, batch.model, batch.revision)
    if generation is None:
        return
    if batch.is_given_up:  # its rows went by requests: late vectors are of use where they are still to come
        known = vector_cache.known(generation, [*vectors])
        vectors = {text_hash: found for text_hash, found in vectors.items() if text_hash not in known}
    vector_cache.cache_vectors(_claim(batch, pipeline, generation), {**vectors})


def _claim(batch: BatchOfTexts, pipeline: Pipeline, generation: Generation) -> Claim:
    return Claim(batch.token, pipeline, generation, Lane.BACKFILL, 0, leased=False)


def end(batch: BatchOfTexts, state: str, why: str | None) -> None:
    """End a batch whose results are all filed: its rows can be claimed, and what has no vector goes by requests."""
    if not remote_batches.is_owned(batch):
        return
    left = batch_spool.count(batch.id)
    if why is None and left:
        last = remote_batches.figures(batch)["last_error"]
        why = f"{pluralize(left, 'text')} had no vector and go by requests{f': {last}' if last else ''}"
    claims.wake_batch(batch.id)
    batch_spool.delete_all_texts(batch.id)
    batch_spool.end(batch.id, state, why)
    remote_batches.set_collected(batch)
    figures = remote_batches.figures(batch)
    model, pipeline = models.of_generation(batch.model, batch.revision), pipelines.by_id(batch.pipeline)
    if model is not None and pipeline is not None:
        price = price_of(model)
        spared = int(figures["spared_tokens"])
        alone = int(figures["spared"]), spared, None if price is None else spared * price
        usage.record_batch(pipeline.id, model.id, 0, 0, None if price is None else 0.0, alone, calls=1)
        _settle(pipeline, model, figures)
    event_log.info(
        "batch_ended", batch=batch.id, pipeline=event_log.pipeline_name(batch.pipeline), state=figures["state"],
        texts=batch.texts, succeeded=figures["succeeded"], failed=figures["failed"], seconds=round(batch.seconds),
    )  # fmt: skip


def _settle(pipeline: Pipeline, model: Model, figures: db.Row) -> None:
    """Charge what was billed beyond what was reserved; give back the rest only on the day that it was taken from."""
    tokens = int(figures["billed"]) - int(figures["reserved"])
    if tokens < 0 and not figures["is_same_day"]:
        return
    try:
        budgets.adjust(budget(pipeline), discounted(model), tokens)
    except RetryableError as error:  # another session has the budget's lock
        event_log.info("budget_not_charged", pipeline=pipeline.name, tokens=tokens, reason=str(error))


def discounted(model: Model) -> Model:
    """Return a model at the price of a batch."""
    price = price_of(model)
    if price is None:
        return model
    return replace(model, options={**model.options, "price": price * 1e6})
