"""What is to be done after a request: vectors to deliver, texts to send again in other parcels, failures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from evergreen.core.embedding import Answer, EmbeddingTask, FailedRequest, RequestBatch, SplitRequest, Vector
from evergreen.core.errors import (
    ConfigurationError,
    InvalidVectorError,
    ModelError,
    RejectedError,
    RetryableError,
    SuspectError,
    doubtful,
)
from evergreen.core.pipeline import Model
from evergreen.embedding import doubt
from evergreen.embedding.endpoint_queue import InFlightRequest
from evergreen.embedding.limits.admission import AdmissionControl

_TRIES = 3
_SHORTEST = 8  # characters: what is shorter is not too long for any model
# Of the sum of squares: the smallest normal float32, and what leaves room for the sum of two vectors.
_LEAST_SQUARE, _MOST_SQUARE = 1.2e-38, 8e37


@dataclass
class NextStep:
    """What is to be done."""

    note: Callable[[AdmissionControl], None]
    vectors: dict[bytes, Vector] = field(default_factory=dict[bytes, Vector])
    failures: dict[bytes, ModelError] = field(default_factory=dict[bytes, ModelError])
    again: list[RequestBatch] = field(default_factory=list[RequestBatch])
    doubts: list[FailedRequest] = field(default_factory=list[FailedRequest])
    works: bool = False  # the model gave a good vector
    too_large: SplitRequest | None = None  # a request of which all parts have passed now
    fatal: ModelError | None = None  # whatever the order has not sent yet would fail too


def classify(flight: InFlightRequest, result: Answer | ModelError, answers: int) -> NextStep:
    """Judge what a request gave. ``answers``: how many the model has given before."""
    order, leave, estimated = flight.order, flight.leave, flight.estimated
    order.spent.calls += 1
    if isinstance(result, Answer):
        order.spent.texts += len(flight.request.texts)
        order.spent.tokens += estimated if result.tokens is None else result.tokens
        return _answered(flight, result, answers)
    if isinstance(result, RejectedError):
        refused = NextStep(lambda t: t.refused(order, leave, estimated, misconfigured=False))
        return _refused(refused, flight, result)
    if result.doubtful:
        return _doubted(flight, result, answers)
    if isinstance(result, ConfigurationError):
        return _misconfigured(flight, result)
    return _limited(flight, result, answers) if result.limited else _unanswered(flight, result)


def _answered(flight: InFlightRequest, answer: Answer, answers: int) -> NextStep:
    order, keys = flight.order, flight.parcel.keys
    spent = (order, flight.leave, flight.estimated, answer.tokens, answer.pause)
    done = NextStep(lambda t: t.succeeded(*spent))
    try:
        verdict = validate(order.model, answer, len(flight.request.texts), zeros=order.provider.zeros)
    except RejectedError as error:
        return _refused(done, flight, error)
    except ConfigurationError as error:
        return _doubted(flight, error, answers)
    if not verdict.good and len(keys) > 1:  # one text may spoil the vectors of all
        error = doubtful(ConfigurationError(str(verdict.bad[0])))
        return replace(_doubted(flight, error, answers), note=done.note)
    if flight.parcel.canary and not verdict.good:
        return _misconfigured(flight, ConfigurationError(str(verdict.bad[0])))
    return _delivered(done, flight, verdict)


@dataclass(frozen=True)
class Validation:
    """The good vectors, and what is wrong with the others, by place in the request."""

    good: dict[int, Vector] = field(default_factory=dict[int, Vector])
    bad: dict[int, ModelError] = field(default_factory=dict[int, ModelError])


def _delivered(done: NextStep, flight: InFlightRequest, verdict: Validation) -> NextStep:
    """Take the good vectors; of several texts that have none, each may have spoiled the others'."""
    order, keys = flight.order, flight.parcel.keys
    if verdict.good:
        order.trusted = done.works = True
        done.failures |= order.accused
        order.accused.clear()
    if flight.parcel.canary:
        return done
    case = flight.parcel.case
    if case is not None and not verdict.bad and case.passed(len(keys)):
        done.too_large = case
    done.vectors = {keys[place]: vector for place, vector in verdict.good.items()}
    if len(verdict.bad) > 1:
        done.again = _halves([keys[place] for place in verdict.bad])
        return done
    for place, error in verdict.bad.items():
        _accuse(done, order, keys[place], error)
    return done


def _halves(keys: list[bytes]) -> list[RequestBatch]:
    """Cut texts into two parcels, or one."""
    middle = len(keys) // 2
    return [RequestBatch(part) for part in (keys[:middle], keys[middle:]) if part]


def _refused(done: NextStep, flight: InFlightRequest, error: ModelError) -> NextStep:
    """Some text is to blame: halve until that one is alone."""
    order, parcel = flight.order, flight.parcel
    if parcel.canary:
        return _misconfigured(flight, ConfigurationError(f"{error} (as to any text)"))
    if len(parcel.keys) > 1:
        middle = len(parcel.keys) // 2
        case = SplitRequest(len(parcel.keys), len(parcel.keys))
        done.again = [RequestBatch(parcel.keys[:middle], case=case), RequestBatch(parcel.keys[middle:], case=case)]
        return done
    key = parcel.keys[0]
    if isinstance(error, SuspectError):
        error = doubt.poison(error)
    elif order.truncate and (shorter := _shorter(order, key)):
        order.texts[key] = shorter
        done.again = [RequestBatch([key])]
        return done
    _accuse(done, order, key, error)
    return done


def _shorter(order: EmbeddingTask, key: bytes) -> str | None:
    """Return half of a text that may be too long; None when it is so short that it was refused for another reason.

    The server counts otherwise than we do (a character may be several tokens), and few say that it is the length.
    """
    text = order.texts[key]
    if order.provider.sql or len(text) // 2 < _SHORTEST:
        return None
    most = order.provider.limits(order.model).input_tokens or 0
    return text[: max(most, len(text) // 2)] if len(text) > most else text[: len(text) // 2]


def _accuse(done: NextStep, order: EmbeddingTask, key: bytes, error: ModelError) -> None:
    """A text failed alone: its own fault, once some text has passed; until then a harmless one is sent to see."""
    if order.trusted or not order.patient:
        done.failures[key] = error
        return
    if not order.accused:
        done.again.insert(0, RequestBatch([], canary=True))
    order.accused[key] = error


def _misconfigured(flight: InFlightRequest, error: ConfigurationError) -> NextStep:
    order, leave, estimated = flight.order, flight.leave, flight.estimated
    done = NextStep(lambda t: t.refused(order, leave, estimated, misconfigured=True), fatal=error)
    done.failures = dict.fromkeys(flight.parcel.keys, error)
    return done


def _unanswered(flight: InFlightRequest, error: ModelError) -> NextStep:
    """Nobody's fault: the same request again, a few times."""
    order, leave, estimated, parcel = flight.order, flight.leave, flight.estimated, flight.parcel
    pause = error.pause if isinstance(error, RetryableError) else None
    done = NextStep(lambda t: t.failed(order, leave, estimated, pause))
    if order.patient and parcel.tries + 1 < _TRIES:
        done.again = [replace(parcel, tries=parcel.tries + 1)]
    else:
        done.failures = dict.fromkeys(parcel.keys, doubt.left(parcel, error, tried=True) or error)
        done.fatal = error
    return done


def _limited(flight: InFlightRequest, error: ModelError, answers: int) -> NextStep:
    """Once more when the server has rested; if it wants to rest again, see whether it does so for a harmless text.

    The server's wish to rest is not believed of a text for which it is repeated, unless it says so of the harmless one.
    """
    order, leave, estimated, parcel = flight.order, flight.leave, flight.estimated, flight.parcel
    pause = error.pause if isinstance(error, RetryableError) else None
    done = NextStep(lambda t: t.failed(order, leave, estimated, pause))
    if parcel.canary or not order.patient:
        done.failures, done.fatal = dict.fromkeys(parcel.keys, error), error
        return done
    is_first = parcel.since is None
    failed = replace(parcel, tries=parcel.tries + 1, since=answers if is_first else parcel.since, error=error)
    if is_first or leave.probe:
        done.again = [failed]
        return done
    if parcel.case is not None and parcel.case.is_limited():
        done.failures = dict.fromkeys(parcel.keys, doubt.left(failed, error, tried=True) or error)
        done.fatal = error
        return done
    return NextStep(lambda t: t.doubted(order, leave, estimated, None), doubts=[FailedRequest(failed, error)])


def _doubted(flight: InFlightRequest, error: ModelError, answers: int) -> NextStep:
    """Send it once more as it was, as most such failures pass; then find out what is to blame."""
    order, leave, estimated, parcel = flight.order, flight.leave, flight.estimated, flight.parcel
    is_refusal = isinstance(error, ConfigurationError)
    # What answers others does not need a pause, although it asks for one whenever it is sent this.
    pause = error.pause if isinstance(error, RetryableError) and parcel.since is None else None
    if is_refusal and (parcel.canary or not order.patient):
        return _misconfigured(flight, error)
    if parcel.canary or not order.patient:
        done = NextStep(lambda t: t.down(order, leave, estimated, pause), fatal=error)
        if flight.others_work:
            done = NextStep(lambda t: t.refused(order, leave, estimated, misconfigured=True), fatal=error)
        done.failures = dict.fromkeys(parcel.keys, error)
        return done
    done = NextStep(lambda t: t.doubted(order, leave, estimated, pause))
    is_first = parcel.since is None
    is_trial = 0 < leave.capacity.good < len(parcel.keys)
    failed = replace(parcel, tries=parcel.tries + 1, since=answers if is_first else parcel.since, error=error)
    if is_first and error.slow and len(parcel.keys) > 1 and not leave.probe:
        done.again = doubt.quarters(FailedRequest(failed, error), answers, acquitted=False)
    elif is_first and not (error.slow or is_refusal or is_trial or leave.probe):
        done.again = [failed]
    else:
        done.doubts = [FailedRequest(failed, error)]
    return done


def validate(model: Model, answer: Answer, count: int, *, zeros: bool = False) -> Validation:
    """Look at each vector; raises the ModelError that concerns the request as a whole. ``zeros``: see ``flaw``."""
    vectors = answer.vectors
    if len(vectors) != count:
        raise SuspectError(f"model {model.name}: {count} texts gave {len(vectors)} vectors")
    sizes = {vector.size for vector in vectors}
    if len(sizes) == 1 and not sizes & {model.dimensions, 0}:
        raise doubtful(ConfigurationError(_wrong_size(model, sizes.pop())))
    verdict = Validation()
    for place, vector in enumerate(vectors):
        wrong = _wrong(model, vector, zeros=zeros)
        if wrong is None:
            verdict.good[place] = vector
        else:
            verdict.bad[place] = InvalidVectorError(wrong)
    return verdict


def _wrong(model: Model, vector: Vector, *, zeros: bool) -> str | None:
    if vector.size == 0:
        return f"model {model.name} gave no vector for a text"
    if vector.shape != (model.dimensions,):
        return _wrong_size(model, vector.size)
    found = vector_problem(vector, zeros=zeros)
    return f"model {model.name} gave {found} for a text" if found is not None else None


def vector_problem(vector: Vector, *, zeros: bool = False) -> str | None:
    """Say why no distance to a vector can be computed; None where it can. ``zeros``: a vector of zeros is an answer.

    pgvector sums squares in float32: where that overflows or vanishes, the cosine of two vectors is NaN.
    """
    with np.errstate(all="ignore"):
        square = float(np.dot(vector, vector))
    if _LEAST_SQUARE <= square <= _MOST_SQUARE:
        return None
    if not np.isfinite(vector).all():
        return "NaN or infinity"
    if not vector.any():
        return None if zeros else "a vector of zeros"
    return "a vector whose length is out of range"


def _wrong_size(model: Model, size: int) -> str:
    asked = ", which was asked for and ignored by the server" if model.options.get("send_dimensions") else ""
    return (
        f"model {model.name} is registered with {model.dimensions} dimensions{asked}; it answered with {size}:"
        f" add it with embed_model_add(…, {size}) under another name"
    )
