"""The steps of a batch: which call it needs next, and what the outcome of a call means to it.

| state                        | call             | then                                                   |
|------------------------------|------------------|--------------------------------------------------------|
| preparing, without a file    | upload           | create                                                 |
| preparing, with a file       | create           | submitted                                              |
| submitted, running           | get              | again after a while, or collecting                     |
| collecting                   | collect          | done, failed, expired or cancelled, as at the provider |
| over, maybe at the provider  | find             | as the next line, or clean up                          |
| over, at the provider        | withdraw         | late results are collected                             |
| over, all collected          | clean            | nothing is left                                        |
"""

import io
from collections.abc import Callable
from typing import Any

from evergreen.catalog import models
from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ConfigurationError, ModelError, RejectedError
from evergreen.core.pipeline import Endpoint, Model
from evergreen.core.remote_batch import BatchOfTexts
from evergreen.core.retry import backoff
from evergreen.db import event_log
from evergreen.embedding.batches.protocol import BatchApi, BatchLine, BatchState, NotFoundError, RemoteBatch
from evergreen.embedding.batches.registry import of_model
from evergreen.queue import claims
from evergreen.storage import batch_spool, remote_batches
from evergreen.worker import batch_results
from evergreen.worker.batch_calls import Call, Download

_POLL_S, _MOST_POLL_S = 30.0, 600.0
_WITHDRAWN_POLL_S = 60.0
_RETRY_S = 30.0
_REFUSALS = 3  # tries of a call that the provider refuses
#: Calls for what may have been paid for: as long as its deadline allows, they wait for the endpoint or its key.
_PAID = ("get", "collect", "withdraw", "find")
_LOOKS = 2


def begin(batch: BatchOfTexts) -> Call | None:
    """Return the call that a batch needs next; None where there is nothing to call."""
    model = models.of_generation(batch.model, batch.revision)
    api = of_model(model) if model is not None else None
    if model is None or model.endpoint is None or api is None or batch.is_old:
        _end_without_api(batch)
        return None
    call = _Begin(batch, model, model.endpoint, api)
    if batch.is_given_up or batch.is_collected:
        return call.cleanup() if _is_at_provider(batch) else _close(batch)
    if batch.state == "preparing":
        if not models.is_in_epoch(model, batch.epoch):
            _fail(batch, "the model changed before the batch was sent")
            return None
        return call.create() if batch.files else call.upload()
    return call.collect() if batch.state == "collecting" else call.get()


def _is_at_provider(batch: BatchOfTexts) -> bool:
    """Return whether something may be left there."""
    return bool(batch.files) if batch.is_collected else batch.remote_id is not None or batch.was_asked


def _close(batch: BatchOfTexts) -> None:
    """Take the next step of a batch that is over, and of which nothing is at the provider."""
    if batch.is_collected:
        remote_batches.set_clean(batch)
    else:
        batch_results.end(batch, batch.state, None)
        remote_batches.release(batch, 0.0, succeeded=True)


class _Begin:
    """Makes the calls of one batch."""

    def __init__(self, batch: BatchOfTexts, model: Model, endpoint: Endpoint, api: BatchApi) -> None:
        self._batch = batch
        self._model = model
        self._endpoint = endpoint
        self._api = api
        self._at = (endpoint, model)

    def _call(self, name: str, body: Callable[[RequestCanceller], Any]) -> Call:
        return Call(self._batch, self._model, name, body)

    def upload(self) -> Call | None:
        """Upload the texts; after a try that may have succeeded, look for the file first."""
        batch, api, at = self._batch, self._api, self._at
        prompt = str(self._model.options.get("document_prompt", ""))
        lines = io.BytesIO()
        for text_hash, text in remote_batches.texts(batch):
            lines.write(api.line(self._model, BatchLine(text_hash.hex(), prompt + text)))
        if not lines.tell():
            _fail(batch, "none of its texts is left", "cancelled")
            return None
        lines.seek(0)

        def upload(canceller: RequestCanceller) -> str:
            found = api.find_file(*at, batch.name, canceller) if batch.attempts > 1 else None
            return found if found is not None else api.upload(*at, batch.name, lines, canceller)

        return self._call("upload", upload)

    def create(self) -> Call | None:
        """Create the batch, unless it was cancelled; after a try that may have succeeded, look for it first."""
        batch, api, at = self._batch, self._api, self._at
        if not remote_batches.note_asked(batch):
            return None

        def create(canceller: RequestCanceller) -> RemoteBatch:
            found = api.find(*at, batch.intent, canceller) if batch.was_asked else None
            return found if found is not None else api.create(*at, batch.files[0], batch.intent, canceller)

        return self._call("create", create)

    def get(self) -> Call:
        """Ask what has become of it."""
        remote_id = self._batch.remote_id or ""
        return self._call("get", lambda canceller: self._api.get(*self._at, remote_id, canceller))

    def collect(self) -> Download:
        """Download the results."""
        batch = self._batch
        remote = RemoteBatch(batch.remote_id or "", BatchState(batch.remote_state), batch.outputs, *batch.counts)
        return Download(batch, self._model, lambda canceller: self._api.results(*self._at, remote, canceller))

    def cleanup(self) -> Call:
        """Take the next step of a batch that is over for its rows."""
        batch, api, at = self._batch, self._api, self._at
        remote_id = batch.remote_id
        if batch.is_collected:
            files = (*batch.files, *batch.outputs)
            return self._call("clean", lambda canceller: api.delete_files(*at, files, canceller))
        if remote_id is None:
            return self._call("find", lambda canceller: api.find(*at, batch.intent, canceller))
        if batch.remote_state is not None:
            return self.collect()

        def withdraw(canceller: RequestCanceller) -> RemoteBatch:
            if batch.attempts == 1:
                api.cancel(*at, remote_id, canceller)
            return api.get(*at, remote_id, canceller)

        return self._call("withdraw", withdraw)


def finish(call: Call, result: Any) -> None:
    """Write down what a call has come to, and when the next one is due."""
    if isinstance(result, ModelError):
        _fail_call(call, result)
    else:
        _OUTCOMES[call.name](call.batch, result)


def _uploaded(batch: BatchOfTexts, file: str) -> None:
    remote_batches.note_file(batch, file)
    remote_batches.release(batch, 0.0, succeeded=True)


def _created(batch: BatchOfTexts, remote: RemoteBatch) -> None:
    remote_batches.note_created(batch, remote.id)
    remote_batches.release(batch, _POLL_S if not batch.is_given_up else 0.0, succeeded=True)
    event_log.info("batch_submitted", batch=batch.id, pipeline=event_log.pipeline_name(batch.pipeline))


def _got(batch: BatchOfTexts, remote: RemoteBatch) -> None:
    final = remote.state.is_final
    if remote.limited and remote_batches.resubmit(batch, remote.error):
        remote_batches.release(batch, _MOST_POLL_S, succeeded=True)
        return
    remote_batches.note_polled(batch, remote)
    usual = _WITHDRAWN_POLL_S if batch.is_given_up else min(max(_POLL_S, batch.seconds / 10), _MOST_POLL_S)
    wait = 0.0 if final else max(usual, remote.retry_after or 0.0)
    remote_batches.release(batch, wait, succeeded=not batch.is_given_up or final)


def _collected(batch: BatchOfTexts, _: None) -> None:
    batch_results.end(batch, batch.remote_state or "failed", None)
    remote_batches.release(batch, 0.0, succeeded=True)


def _found(batch: BatchOfTexts, remote: RemoteBatch | None) -> None:
    if remote is not None:
        _created(batch, remote)
    elif batch.attempts < _LOOKS:
        remote_batches.release(batch, _RETRY_S, succeeded=False)
    else:
        batch_results.end(batch, batch.state, None)
        remote_batches.release(batch, 0.0, succeeded=True)


def _cleaned(batch: BatchOfTexts, _: None) -> None:
    remote_batches.set_clean(batch)


_OUTCOMES: dict[str, Callable[[BatchOfTexts, Any], None]] = {
    "upload": _uploaded,
    "create": _created,
    "get": _got,
    "withdraw": _got,
    "collect": _collected,
    "find": _found,
    "clean": _cleaned,
}


def _fail_call(call: Call, error: ModelError) -> None:
    """Try again later what may pass; after some refusals the rows go by requests."""
    batch = call.batch
    why = error.log_message or str(error)
    refused = isinstance(error, RejectedError | ConfigurationError)
    if call.name == "collect" and isinstance(error, NotFoundError):
        _end_collecting(batch, why)
        return
    if refused and batch.attempts >= _REFUSALS and call.name != "clean":
        if batch.attempts == _REFUSALS:
            event_log.warn("batch_refused", batch=batch.id, call=call.name, reason=why)
        if call.name not in _PAID:
            _fail(batch, why)
            return
        if isinstance(error, RejectedError | NotFoundError):
            _end_collecting(batch, why)
            return
    remote_batches.note_error(batch, str(error))
    pause: float | None = getattr(error, "pause", None)
    delay = backoff(batch.attempts - 1, _RETRY_S, _MOST_POLL_S)
    remote_batches.release(batch, max(delay, pause or 0.0), succeeded=False)


def _end_collecting(batch: BatchOfTexts, why: str) -> None:
    """End a batch whose results, or the rest of them, cannot be had."""
    batch_results.end(batch, "failed", why)
    remote_batches.release(batch, 0.0, succeeded=True)


def _fail(batch: BatchOfTexts, why: str, state: str = "failed") -> None:
    """End a batch that was not created, as far as is known: its rows go by requests."""
    if remote_batches.is_owned(batch):
        batch_spool.give_up(batch.id, state, why)
        claims.wake_batch(batch.id)


def _end_without_api(batch: BatchOfTexts) -> None:
    """End a batch whose model or endpoint is gone, or has no batch API any more."""
    if not remote_batches.is_owned(batch):
        return
    batch_spool.give_up(batch.id, "failed", "its endpoint has no batch API any more")
    batch_spool.delete_all_texts(batch.id)
    claims.wake_batch(batch.id)
    remote_batches.abandon(batch)
