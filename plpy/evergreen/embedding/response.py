"""What a response means: vectors to deliver, texts to send again in other batches, failures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model
from evergreen.core.retry import halves
from evergreen.embedding import fault_isolation
from evergreen.embedding.endpoint_queue import InFlightRequest
from evergreen.embedding.limits.admission import AdmissionControl
from evergreen.embedding.vector_checks import are_usable, wrong_size, wrong_vector

_TRIES = 3
_SHORTEST = 8  # characters: what is shorter is not too long for any model


@dataclass
class NextStep:
    """What to do after a response: deliver vectors, resend texts, record failures."""

    note: Callable[[AdmissionControl], None]
    vectors: dict[bytes, Vector] = field(default_factory=dict[bytes, Vector])
    failures: dict[bytes, ModelError] = field(default_factory=dict[bytes, ModelError])
    retry: list[RequestBatch] = field(default_factory=list[RequestBatch])
    unresolved: list[FailedRequest] = field(default_factory=list[FailedRequest])
    works: bool = False  # the model gave a good vector
    too_large: SplitRequest | None = None  # a request of which all parts have passed now
    fatal: ModelError | None = None  # what the task has not sent yet would fail, too


def classify(sent: InFlightRequest, result: Answer | ModelError, answers: int) -> NextStep:
    """Return what to do after a response. ``answers``: how many valid answers the model has given before."""
    task, permit, estimated = sent.task, sent.permit, sent.estimated
    task.usage.calls += 1
    if isinstance(result, Answer):
        task.usage.texts += len(sent.request.texts)
        task.usage.tokens += estimated if result.tokens is None else result.tokens
    if task.is_look and (problem := _look_problem(sent, result)) is not None:
        return _failed_look(sent, problem)
    if isinstance(result, Answer):
        return _answered(sent, result, answers)
    if isinstance(result, RejectedError):
        refused = NextStep(lambda t: t.refused(task, permit, estimated, misconfigured=False))
        return _refused(refused, sent, result)
    if result.doubtful:
        return _isolate(sent, result, answers)
    if isinstance(result, ConfigurationError):
        return _misconfigured(sent, result)
    return _limited(sent, result, answers) if result.limited else _unanswered(sent, result)


def _look_problem(sent: InFlightRequest, result: Answer | ModelError) -> ModelError | None:
    if isinstance(result, ModelError):
        return result
    try:
        found = validate(sent.task.model, result, len(sent.request.texts), zeros=sent.task.provider.zeros)
    except ModelError as error:
        return error
    return next(iter(found.invalid.values()), None)


def _failed_look(sent: InFlightRequest, error: ModelError) -> NextStep:
    """A look that fails says nothing of the rows' texts: it counts against no endpoint, and is not tried in parts."""
    task, permit, estimated = sent.task, sent.permit, sent.estimated
    pause = error.pause if isinstance(error, RetryableError) else None
    failures = dict.fromkeys(sent.batch.keys, error)
    return NextStep(lambda t: t.inconclusive(task, permit, estimated, pause), failures=failures, fatal=error)


def _answered(sent: InFlightRequest, answer: Answer, answers: int) -> NextStep:
    task, keys = sent.task, sent.batch.keys
    spent = (task, sent.permit, sent.estimated, answer.tokens, answer.pause)
    done = NextStep(lambda t: t.succeeded(*spent))
    try:
        validation = validate(task.model, answer, len(sent.request.texts), zeros=task.provider.zeros)
    except RejectedError as error:
        return _refused(done, sent, error)
    except ConfigurationError as error:
        return _isolate(sent, error, answers)
    if not validation.valid and len(keys) > 1:  # one text may spoil the vectors of all
        error = doubtful(ConfigurationError(str(validation.invalid[0])))
        return replace(_isolate(sent, error, answers), note=done.note)
    if sent.batch.canary and not validation.valid:
        return _misconfigured(sent, ConfigurationError(str(validation.invalid[0])))
    return _delivered(done, sent, validation)


@frozen
class Validation:
    """The good vectors, and what is wrong with the others, by place in the request."""

    valid: dict[int, Vector] = field(default_factory=dict[int, Vector])
    invalid: dict[int, ModelError] = field(default_factory=dict[int, ModelError])


def _delivered(done: NextStep, sent: InFlightRequest, validation: Validation) -> NextStep:
    """Deliver the valid vectors; of several texts without one, each may have spoiled the others'."""
    task, keys = sent.task, sent.batch.keys
    if validation.valid:
        task.model_verified = done.works = True
        done.failures |= task.suspects
        task.suspects.clear()
    if sent.batch.canary:
        return done
    split = sent.batch.split
    if split is not None and not validation.invalid and split.passed(len(keys)):
        done.too_large = split
    done.vectors = {keys[place]: vector for place, vector in validation.valid.items()}
    if len(validation.invalid) > 1:
        done.retry = [RequestBatch(half) for half in halves([keys[place] for place in validation.invalid])]
        return done
    for place, error in validation.invalid.items():
        _suspect(done, task, keys[place], error)
    return done


def _refused(done: NextStep, sent: InFlightRequest, error: ModelError) -> NextStep:
    """Some text is to blame: halve until that one is alone."""
    task, batch = sent.task, sent.batch
    if batch.canary:
        return _misconfigured(sent, ConfigurationError(f"{error} (as to any text)"))
    if len(batch.keys) > 1:
        split = SplitRequest(len(batch.keys), len(batch.keys))
        done.retry = [RequestBatch(half, split=split) for half in halves(batch.keys)]
        return done
    key = batch.keys[0]
    if isinstance(error, SuspectError):
        error = fault_isolation.poison(error)
    elif task.truncate and (shorter := _shorter(task, key)):
        task.texts[key] = shorter
        done.retry = [RequestBatch([key])]
        return done
    _suspect(done, task, key, error)
    return done


def _shorter(task: EmbeddingTask, key: bytes) -> str | None:
    """Return half of a text that may be too long; None when it is so short that it was refused for another reason.

    The server counts otherwise than we do (a character may be several tokens), and few say that it is the length.
    """
    text = task.texts[key]
    if task.provider.sql or len(text) // 2 < _SHORTEST:
        return None
    most = task.provider.limits(task.model).input_tokens or 0
    return text[: max(most, len(text) // 2)] if len(text) > most else text[: len(text) // 2]


def _suspect(done: NextStep, task: EmbeddingTask, key: bytes, error: ModelError) -> None:
    """A text failed alone: its own fault, once some text has passed; until then a harmless one is sent to see."""
    if task.model_verified or not task.retries:
        done.failures[key] = error
        return
    if not task.suspects:
        done.retry.insert(0, RequestBatch([], canary=True))
    task.suspects[key] = error


def _misconfigured(sent: InFlightRequest, error: ConfigurationError) -> NextStep:
    task, permit, estimated = sent.task, sent.permit, sent.estimated
    done = NextStep(lambda t: t.refused(task, permit, estimated, misconfigured=True), fatal=error)
    done.failures = dict.fromkeys(sent.batch.keys, error)
    return done


def _unanswered(sent: InFlightRequest, error: ModelError) -> NextStep:
    """No text is at fault: send the same request again, a few times."""
    task, permit, estimated, batch = sent.task, sent.permit, sent.estimated, sent.batch
    pause = error.pause if isinstance(error, RetryableError) else None
    done = NextStep(lambda t: t.failed(task, permit, estimated, pause))
    if task.retries and batch.tries + 1 < _TRIES:
        done.retry = [replace(batch, tries=batch.tries + 1)]
    else:
        done.failures = dict.fromkeys(batch.keys, fault_isolation.final_error(batch, error, tried=True) or error)
        done.fatal = error
    return done


def _limited(sent: InFlightRequest, error: ModelError, answers: int) -> NextStep:
    """Once more when the server has rested; if it wants to rest again, see whether it does so for a harmless text.

    The server's wish to rest is not believed of a text for which it is repeated, unless it says so of the harmless one.
    """
    task, permit, estimated, batch = sent.task, sent.permit, sent.estimated, sent.batch
    pause = error.pause if isinstance(error, RetryableError) else None
    done = NextStep(lambda t: t.failed(task, permit, estimated, pause))
    if batch.canary or not task.retries:
        done.failures, done.fatal = dict.fromkeys(batch.keys, error), error
        return done
    is_first = batch.since is None
    failed = replace(batch, tries=batch.tries + 1, since=answers if is_first else batch.since, error=error)
    if is_first or permit.probe:
        done.retry = [failed]
        return done
    if batch.split is not None and batch.split.is_limited():
        done.failures = dict.fromkeys(batch.keys, fault_isolation.final_error(failed, error, tried=True) or error)
        done.fatal = error
        return done
    return NextStep(lambda t: t.inconclusive(task, permit, estimated, None), unresolved=[FailedRequest(failed, error)])


def _isolate(sent: InFlightRequest, error: ModelError, answers: int) -> NextStep:
    """Send it once more as it was, as most such failures pass; then find out what is to blame."""
    task, permit, estimated, batch = sent.task, sent.permit, sent.estimated, sent.batch
    is_refusal = isinstance(error, ConfigurationError)
    # What answers others does not need a pause, although it asks for one whenever it is sent this.
    pause = error.pause if isinstance(error, RetryableError) and batch.since is None else None
    if is_refusal and (batch.canary or not task.retries):
        return _misconfigured(sent, error)
    if batch.canary or not task.retries:
        done = NextStep(lambda t: t.down(task, permit, estimated, pause), fatal=error)
        if sent.others_work:
            done = NextStep(lambda t: t.refused(task, permit, estimated, misconfigured=True), fatal=error)
        done.failures = dict.fromkeys(batch.keys, error)
        return done
    done = NextStep(lambda t: t.inconclusive(task, permit, estimated, pause))
    is_first = batch.since is None
    is_trial = 0 < permit.capacity.good < len(batch.keys)
    failed = replace(batch, tries=batch.tries + 1, since=answers if is_first else batch.since, error=error)
    if is_first and error.slow and len(batch.keys) > 1 and not permit.probe:
        done.retry = fault_isolation.quarters(FailedRequest(failed, error), answers, endpoint_works=False)
    elif is_first and not (error.slow or is_refusal or is_trial or permit.probe):
        done.retry = [failed]
    else:
        done.unresolved = [FailedRequest(failed, error)]
    return done


def validate(model: Model, answer: Answer, count: int, *, zeros: bool = False) -> Validation:
    """Check each vector; raises ModelError for a fault of the whole answer. ``zeros``: see ``vector_problem``."""
    vectors = answer.vectors
    if len(vectors) != count:
        raise SuspectError(f"model {model.name}: {count} texts gave {len(vectors)} vectors")
    sizes = {vector.size for vector in vectors}
    if len(sizes) == 1 and not sizes & {model.dimensions, 0}:
        raise doubtful(ConfigurationError(wrong_size(model, sizes.pop())))
    if sizes == {model.dimensions} and are_usable(vectors):
        return Validation(dict(enumerate(vectors)))
    validation = Validation()
    for place, vector in enumerate(vectors):
        wrong = wrong_vector(model, vector, zeros=zeros)
        if wrong is None:
            validation.valid[place] = vector
        else:
            validation.invalid[place] = InvalidVectorError(wrong)
    return validation
