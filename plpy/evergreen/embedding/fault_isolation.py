"""A request failed as a whole: find out whether the endpoint, its size or one of its texts is to blame.

An answer that comes after the failure shows that the endpoint works; where no other request is in flight, a harmless
text (a canary) is sent. Then the texts are sent again in quarters: n texts cost at most 4 log4(n) = 2 log2(n) more
requests for each culprit, and log4(n) time-outs where it makes the server hang. A text that fails alone is the culprit.
"""

import copy
import time

from evergreen.core.embedding import EmbeddingTask, FailedRequest, RequestBatch, SplitRequest
from evergreen.core.errors import ConfigurationError, ModelError, PoisonError, RetryableError, doubtful
from evergreen.embedding.endpoint_queue import EndpointQueue, InFlightRequest

_PARTS = 4
_ISOLATION_TIMEOUT_S = 2.5  # afterwards the rest of the batch is written, and the culprit is isolated in later batches


def quarters(failed: FailedRequest, answers: int, *, endpoint_works: bool) -> list[RequestBatch]:
    """Split a failed batch into quarters."""
    keys = failed.batch.keys
    size = -(-len(keys) // _PARTS)
    parts = [keys[start : start + size] for start in range(0, len(keys), size)]
    split = SplitRequest(len(keys), len(keys))
    return [
        RequestBatch(part, since=answers, endpoint_works=endpoint_works, error=failed.error, split=split)
        for part in parts
    ]


def resolve(task: EmbeddingTask, queue: EndpointQueue) -> dict[bytes, ModelError]:
    """Split what failed while the endpoint worked; return the texts that failed alone.

    Each of those needs an answer of its own as evidence: when the endpoint goes down, the texts that are on their way
    alone are not blamed because of an answer that came before.
    """
    answers, model = queue.answers[task.model.id], task.model.id
    found: dict[bytes, ModelError] = {}
    for failed in [failed for failed in task.unresolved if answers > (failed.batch.since or 0)]:
        if len(failed.batch.keys) > 1:
            task.unresolved.remove(failed)
            task.waiting.extendleft(reversed(quarters(failed, answers, endpoint_works=True)))
        elif answers > queue.evidence_used[model]:
            task.unresolved.remove(failed)
            queue.evidence_used[model] = answers
            found[failed.batch.keys[0]] = poison(failed.error)
    return found


def needs_canary(task: EmbeddingTask) -> bool:
    """Return whether a canary must show if the endpoint works: no other request of the task will."""
    if not task.unresolved or any(batch.canary for batch in task.waiting):
        return False
    siblings = task.in_flight or (task.waiting and task.waiting[0].endpoint_works)
    return not (siblings and len(task.unresolved) == 1 and task.unresolved[0].batch.endpoint_works)


def has_early_deadline(batch: RequestBatch) -> bool:
    """Return whether a batch gets an early deadline: a text of it hangs the server, and others wait for it."""
    is_slow = batch.error is None or batch.error.slow
    return batch.since is not None and is_slow and len(batch.keys) > 1


def early_timeout(sent: InFlightRequest) -> ModelError:
    """Return the error of a request that was canceled at its early deadline."""
    error = RetryableError(f"no answer within {sent.early_deadline - sent.began:.1f} s")
    error.log_message = str(error)
    return doubtful(error, slow=True)


def takes_long(task: EmbeddingTask) -> bool:
    """Return whether the other texts have waited long enough for the culprit to be found."""
    return time.monotonic() > task.isolating_since + _ISOLATION_TIMEOUT_S


def note_time(task: EmbeddingTask) -> None:
    """Note since when a failed batch is bisected."""
    is_open = task.unresolved or task.in_flight or any(batch.error is not None for batch in task.waiting)
    task.isolating_since = (task.isolating_since or time.monotonic()) if is_open else 0.0


def final_error(batch: RequestBatch, error: ModelError | None, *, tried: bool) -> ModelError | None:
    """Return the error of the texts of a batch that is given up; their next batch is smaller."""
    found = error or batch.error
    if batch.error is None or found is None or isinstance(error, ConfigurationError):
        return error
    found = copy.copy(found)
    # A server that limits wants fewer requests, not smaller ones, unless it lets some of the texts pass.
    is_smaller = tried and (not batch.error.limited or (batch.split is not None and batch.split.good > 0))
    found.max_batch = max(1, len(batch.keys) // _PARTS) if is_smaller else len(batch.keys)
    return found


def poison(error: ModelError) -> PoisonError:
    """Return the error of a text that makes its requests fail."""
    found = PoisonError(str(error))
    found.log_message = error.log_message
    return found
