"""A request failed as a whole: find out whether the endpoint, its size or one of its texts is to blame.

A request that is answered later than the failure shows that the endpoint works; where nothing else is under way, a
harmless text goes to see. Then the texts go again in quarters, so that n texts cost at most 4 log4(n) = 2 log2(n) more
requests for each culprit, and log4(n) time-outs where it makes the server hang. A text that is left alone is convicted.
"""

import copy
import time

from evergreen.core.embedding import EmbeddingTask, FailedRequest, RequestBatch, SplitRequest
from evergreen.core.errors import ConfigurationError, ModelError, PoisonError, RetryableError, doubtful
from evergreen.embedding.endpoint_queue import EndpointQueue, InFlightRequest

_PARTS = 4
_PATIENCE = 2.5  # seconds for which a batch waits for its culprit; then it is looked for in batches of its own


def quarters(doubt: FailedRequest, answers: int, *, acquitted: bool) -> list[RequestBatch]:
    """Cut a parcel that failed into smaller ones."""
    keys = doubt.parcel.keys
    size = -(-len(keys) // _PARTS)
    parts = [keys[start : start + size] for start in range(0, len(keys), size)]
    case = SplitRequest(len(keys), len(keys))
    return [RequestBatch(part, since=answers, acquitted=acquitted, error=doubt.error, case=case) for part in parts]


def settle(order: EmbeddingTask, line: EndpointQueue) -> dict[bytes, ModelError]:
    """Take apart what failed while the endpoint worked; return the texts that failed alone.

    Each of those needs an answer of its own as evidence: when the endpoint goes down, the texts that are on their way
    alone are not convicted by an answer that came before.
    """
    answers, model = line.answers[order.model.id], order.model.id
    convicted: dict[bytes, ModelError] = {}
    for doubt in [doubt for doubt in order.doubts if answers > (doubt.parcel.since or 0)]:
        if len(doubt.parcel.keys) > 1:
            order.doubts.remove(doubt)
            order.waiting.extendleft(reversed(quarters(doubt, answers, acquitted=True)))
        elif answers > line.spent[model]:
            order.doubts.remove(doubt)
            line.spent[model] = answers
            convicted[doubt.parcel.keys[0]] = poison(doubt.error)
    return convicted


def needs_canary(order: EmbeddingTask) -> bool:
    """Tell whether a harmless text must show if the endpoint works: what else is under way of the order will not."""
    if not order.doubts or any(parcel.canary for parcel in order.waiting):
        return False
    siblings = order.flying or (order.waiting and order.waiting[0].acquitted)
    return not (siblings and len(order.doubts) == 1 and order.doubts[0].parcel.acquitted)


def is_hurried(parcel: RequestBatch) -> bool:
    """Tell whether a parcel is to be cut before its time: some text of it hung, and others wait for it to be found."""
    is_slow = parcel.error is None or parcel.error.slow
    return parcel.since is not None and is_slow and len(parcel.keys) > 1


def hurried(flight: InFlightRequest) -> ModelError:
    """Return what a request failed with that was cut before its time."""
    error = RetryableError(f"no answer within {flight.hurry_at - flight.began:.1f} s")
    error.told = str(error)
    return doubtful(error, slow=True)


def takes_long(order: EmbeddingTask) -> bool:
    """Tell whether the neighbours have waited long enough for a culprit to be found."""
    return time.monotonic() > order.doubted_at + _PATIENCE


def note_time(order: EmbeddingTask) -> None:
    """Note since when some parcel is taken apart."""
    is_open = order.doubts or order.flying or any(parcel.error is not None for parcel in order.waiting)
    order.doubted_at = (order.doubted_at or time.monotonic()) if is_open else 0.0


def left(parcel: RequestBatch, error: ModelError | None, *, tried: bool) -> ModelError | None:
    """Return what a text of a parcel that is given up failed with: next time it travels with fewer others."""
    found = error or parcel.error
    if parcel.error is None or found is None or isinstance(error, ConfigurationError):
        return error
    found = copy.copy(found)
    # A server that limits wants fewer requests, not smaller ones, unless it lets some of the texts pass.
    is_smaller = tried and (not parcel.error.limited or (parcel.case is not None and parcel.case.good > 0))
    found.company = max(1, len(parcel.keys) // _PARTS) if is_smaller else len(parcel.keys)
    return found


def poison(error: ModelError) -> PoisonError:
    """Return what a text failed with that was found to make its requests fail."""
    found = PoisonError(str(error))
    found.told = error.told
    return found
