"""When a batch takes no more texts: its budget is charged and it goes to the provider, or its texts go by requests."""

from evergreen.catalog import models, options, pipelines
from evergreen.core.errors import RejectedError, RetryableError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import event_log
from evergreen.embedding.batches.history import api_of
from evergreen.embedding.limits import budget as budgets
from evergreen.queue import claims
from evergreen.storage import batch_spool
from evergreen.worker import model_change
from evergreen.worker.apply import budget
from evergreen.worker.batch_results import discounted

QUIET_S = 2.0  # seconds without another text, while no history is left to claim
LONGEST_S = 600.0  # that a batch takes texts
_NO_BUDGET_S, _LOCKED_S = 60.0, 1.0


def ready(chosen: list[int]) -> list[int]:
    """Return the batches that will get no more texts."""
    return batch_spool.unsealed(chosen, QUIET_S, LONGEST_S)


def seal(batch: int) -> None:
    """Fix the texts of a batch and charge the pipeline's budget; give its rows back if they are too few."""
    row = batch_spool.lock_unsealed(batch)
    if row is None:
        return
    pipeline = pipelines.by_id(row["pipeline"])
    generation = batch_spool.sibling(pipeline, row["model"], row["model_revision"]) if pipeline is not None else None
    if pipeline is None or generation is None:
        give_back(batch)
        return
    if model_change.stopped(pipeline, generation) is not None:
        batch_spool.postpone(batch, _NO_BUDGET_S, "the model changed")
        return
    least = 1 if row["is_full"] else int(options.effective(pipeline.options, "batch_min_texts"))
    estimates = batch_spool.token_counts(batch)
    is_current = models.is_in_epoch(generation.model, row["epoch"])
    if len(estimates) < least or not is_current or api_of(pipeline, generation) is None:
        give_back(batch)
        return
    _charge(batch, pipeline, generation, estimates)


def _charge(batch: int, pipeline: Pipeline, generation: Generation, estimates: list[int]) -> None:
    """Charge the budget for as many texts as it has room for; the others wait for the next day."""
    try:
        count = budgets.charge(budget(pipeline), discounted(generation.model), estimates)
    except RejectedError:  # no day can pay for a text: requests make its row a dead letter
        give_back(batch)
        return
    except RetryableError:  # another session has the budget's lock
        batch_spool.postpone(batch, _LOCKED_S, None)
        return
    if not count:
        batch_spool.postpone(batch, _NO_BUDGET_S, "the daily budget is spent")
        return
    if count < len(estimates):
        batch_spool.split(batch, count)
    batch_spool.seal(batch, sum(estimates[:count]))
    event_log.info("batch_sealed", batch=batch, pipeline=pipeline.name, model=generation.model.name, texts=count)


def give_back(batch: int) -> None:
    """Let the rows of a batch that was not sealed go by requests."""
    claims.wake_batch(batch)
    batch_spool.delete(batch)
