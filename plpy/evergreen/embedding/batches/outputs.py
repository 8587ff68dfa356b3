"""Read the outputs of a batch: each line becomes a vector that can be stored, or an error."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from evergreen.core.errors import InvalidVectorError, ModelError, RetryableError, SuspectError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model
from evergreen.embedding.batches.calls import Calls
from evergreen.embedding.batches.protocol import BatchResult, NotFoundError, RemoteBatch
from evergreen.embedding.http import answers
from evergreen.embedding.http.reply import Reply, refusal
from evergreen.embedding.vector_checks import wrong_vector

_A_NUMBER = 32  # bytes: the longest that a float becomes, with comma and blanks
_OTHER_DIMENSIONS = 4096  # an answer of a few more dimensions than expected is still read, to say which
_AROUND = 64 * 1024  # what else stands in a line
_DONE = 200
#: Errors of a line without a status that say nothing of its text.
_UNFINISHED = ("expired", "cancelled", "canceled")


@frozen
class Line:
    """What a line says, whatever its format: a vector under ``item``, or ``error`` with a status where it has one."""

    custom_id: Any
    item: Any = None
    tokens: int | None = None
    status: int | None = None
    error: Any = None


def read_all(
    calls: Calls,
    model: Model,
    batch: RemoteBatch,
    path: Callable[[str], str],
    parse: Callable[[Any], Line],
    most: int,
    *,
    stored_elsewhere: bool = False,
) -> Iterator[BatchResult]:
    """Read the outputs of a batch, one after the other, as ``BatchApi.results`` says.

    ``path``: of an output's content; ``parse``: one line of JSON; ``most``: lines that a batch can have.
    """
    line = max(model.dimensions, _OTHER_DIMENSIONS) * _A_NUMBER + _AROUND
    count = min(most, (batch.succeeded or 0) + (batch.failed or 0) or most)
    missing: NotFoundError | None = None
    seen = 0
    for output in batch.outputs:
        try:
            download = calls.lines(path(output), count * line + _AROUND, line, stored_elsewhere=stored_elsewhere)
        except NotFoundError as error:
            missing = error
            continue
        try:
            for raw in download:
                if raw.strip():
                    seen += 1
                    yield _result(raw, model, parse, download.keys, cut=download.cut)
        finally:
            download.close()
    if missing is not None:
        raise missing
    if seen < (batch.succeeded or 0):
        raise RetryableError(f"{seen} lines came of a batch with {batch.succeeded} results")


def _result(raw: bytes, model: Model, parse: Callable[[Any], Line], keys: tuple[str, ...], *, cut: bool) -> BatchResult:
    try:
        line = parse(answers.parsed(raw))
    except ValueError:
        if cut:
            raise RetryableError("the output ends within a line") from None
        return BatchResult(None, error=RetryableError("a line of the output cannot be read"))
    custom_id = line.custom_id if isinstance(line.custom_id, str) else None
    failure = _failure(line, keys)
    if failure is not None:
        return BatchResult(custom_id, error=failure)
    vector = answers.vector(line.item)
    wrong = wrong_vector(model, vector, zeros=False)
    if wrong is not None:
        return BatchResult(custom_id, tokens=line.tokens, error=InvalidVectorError(wrong))
    return BatchResult(custom_id, vector, line.tokens)


def _failure(line: Line, keys: tuple[str, ...]) -> ModelError | None:
    if line.error is None and line.status in {None, _DONE}:
        return None
    reply = Reply(orjson.dumps(line.error), {}, keys)
    if line.status is not None and line.status != _DONE:
        return refusal(line.status, reply)
    text = f"the batch gave no result: {reply.shown()}"
    unfinished = any(word.encode() in reply.body for word in _UNFINISHED)
    failure = RetryableError(text) if unfinished else SuspectError(text)
    failure.log_message = "the batch gave no result"
    return failure
