"""Gemini's Batch API: https://ai.google.dev/gemini-api/docs/batch-api and /docs/files; a batch is an operation."""

from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import orjson

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import RetryableError
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches import outputs
from evergreen.embedding.batches.calls import Answered, Calls, Json, identifier, number, objects, shown
from evergreen.embedding.batches.protocol import BatchLine, BatchResult, BatchState, RemoteBatch
from evergreen.embedding.http import answers
from evergreen.embedding.http.bodies import FileBody
from evergreen.embedding.http.urls import joined

_PAGE = 100
_STATES = {
    "PENDING": BatchState.VALIDATING,
    "RUNNING": BatchState.RUNNING,
    "SUCCEEDED": BatchState.DONE,
    "FAILED": BatchState.FAILED,
    "CANCELLED": BatchState.CANCELLED,
    "EXPIRED": BatchState.EXPIRED,
}
# An error of a line has one of gRPC's codes: https://cloud.google.com/apis/design/errors#handling_errors.
_STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 16: 401}
_LARGEST_CODE = 16


class Gemini:
    """Lines have a key and a request of embedContent; batches are not among the paths for OpenAI's clients."""

    name = "gemini"
    # https://ai.google.dev/gemini-api/docs/batch-api: half the price; 24 hours are the target, 48 the end; 2 GB a file.
    # No limit on the lines of a file is documented: this is that of the others.
    discount = 0.5
    window = 24 * 3600.0
    max_requests = 50_000
    max_inputs = 50_000
    max_bytes = 2_000_000_000
    providers: tuple[str, ...] = ("openai",)

    def line(self, model: Model, line: BatchLine) -> bytes:
        """Return one line of the file."""
        size = {"output_dimensionality": model.dimensions} if model.options.get("send_dimensions") else {}
        request = {**size, "content": {"parts": [{"text": line.text}]}}
        return orjson.dumps({"key": line.custom_id, "request": request}) + b"\n"

    def upload(self, endpoint: Endpoint, model: Model, name: str, lines: BinaryIO, canceller: RequestCanceller) -> str:
        """Begin an upload, which creates nothing, and send the file where that says."""
        calls = _calls(endpoint, canceller)
        body = FileBody(lines)
        begun = calls.send(
            "POST",
            _root_of("upload", calls.root) + "/files",
            orjson.dumps({"file": {"display_name": name}}),
            {
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(len(body)),
                "X-Goog-Upload-Header-Content-Type": "application/jsonl",
            },
        )
        url = begun.headers.get("x-goog-upload-url", "")
        if urlsplit(url)[:2] != urlsplit(calls.root)[:2]:
            # Texts and key go nowhere but to the endpoint.
            raise RetryableError("the server names no URL of its own for the upload")
        command = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
        sent = calls.send("POST", url, body, {**command, "Content-Type": "application/jsonl"})
        try:
            file = answers.member(answers.parsed(sent.body), "file", "name")
        except ValueError:
            file = None
        return identifier(file, "name of a file")

    def find_file(self, endpoint: Endpoint, model: Model, name: str, canceller: RequestCanceller) -> str | None:
        """Look for a file in the list."""
        calls = _calls(endpoint, canceller)
        for file in calls.pages(lambda cursor: _page(calls, "files", "files", cursor)):
            if file.get("displayName") == name:
                return identifier(file.get("name"), "name of a file")
        return None

    def create(
        self, endpoint: Endpoint, model: Model, file_id: str, intent: str, canceller: RequestCanceller
    ) -> RemoteBatch:
        """Submit a batch; its display name is the intent."""
        batch = {"display_name": intent, "input_config": {"file_name": file_id}}
        path = f"{_model(model)}:asyncBatchEmbedContent"
        return _remote(_calls(endpoint, canceller).post(path, {"batch": batch}))

    def find(self, endpoint: Endpoint, model: Model, intent: str, canceller: RequestCanceller) -> RemoteBatch | None:
        """Look for a batch in the list, and ask for it."""
        calls = _calls(endpoint, canceller)
        for batch in calls.pages(lambda cursor: _page(calls, "batches", "operations", cursor)):
            if answers.member(batch, "metadata", "displayName") == intent:
                return self.get(endpoint, model, identifier(batch.get("name"), "name of a batch"), canceller)
        return None

    def get(self, endpoint: Endpoint, model: Model, batch_id: str, canceller: RequestCanceller) -> RemoteBatch:
        """Ask for a batch."""
        return _remote(_calls(endpoint, canceller).get(batch_id))

    def results(
        self, endpoint: Endpoint, model: Model, batch: RemoteBatch, canceller: RequestCanceller
    ) -> Iterator[BatchResult]:
        """Stream the output."""
        calls = _calls(endpoint, canceller)
        content = _root_of("download", calls.root) + "/{}:download?alt=media"
        return outputs.read_all(calls, model, batch, content.format, _line, self.max_requests)

    def cancel(self, endpoint: Endpoint, model: Model, batch_id: str, canceller: RequestCanceller) -> None:
        """Ask for the end of a batch."""
        _calls(endpoint, canceller).settle("POST", f"{batch_id}:cancel")

    def delete_files(
        self, endpoint: Endpoint, model: Model, file_ids: tuple[str, ...], canceller: RequestCanceller
    ) -> None:
        """Delete each file."""
        calls = _calls(endpoint, canceller)
        for file_id in file_ids:
            calls.settle("DELETE", file_id)


def _calls(endpoint: Endpoint, canceller: RequestCanceller) -> Calls:
    """Return the calls below ``…/v1beta``; the endpoint's URL may be that of the paths for OpenAI's clients."""
    root = joined(endpoint.url, "embeddings").removesuffix("/embeddings").removesuffix("/openai")
    return Calls(endpoint, root, canceller, key_header="x-goog-api-key")


def _root_of(kind: str, root: str) -> str:
    """Return the URL under which ``upload`` or ``download`` is served: ``https://host/upload/v1beta``."""
    parts = urlsplit(root)
    return f"{parts.scheme}://{parts.netloc}/{kind}{parts.path}"


def _model(model: Model) -> str:
    return f"models/{(model.remote_name or model.name).removeprefix('models/')}"


def _page(calls: Calls, path: str, under: str, cursor: Any) -> tuple[list[Json], Any]:
    found = calls.get(path, pageSize=_PAGE, pageToken=cursor).json
    return objects(found.get(under)), found.get("nextPageToken") or None


def _remote(answered: Answered) -> RemoteBatch:
    operation = answered.json
    batch = answers.member(operation, "metadata")
    word = str(answers.member(batch, "state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    state = _STATES.get(word, BatchState.RUNNING)
    error = answers.member(operation, "error")
    if error is not None and not state.is_final:
        state = BatchState.FAILED
    output = answers.member(operation, "response", "responsesFile") or answers.member(batch, "output", "responsesFile")
    stats: Json | None = answers.member(batch, "batchStats")
    succeeded, failed = (_count(stats, f"{name}RequestCount") for name in ("successful", "failed"))
    return RemoteBatch(
        identifier(operation.get("name"), "name of a batch"),
        state,
        (identifier(output, "name of a file"),) if output else (),
        succeeded,
        failed,
        shown(answered.reply, [error]) if error is not None else None,
        retry_after=answered.retry_after,
    )


def _count(stats: Json | None, name: str) -> int | None:
    """Return a count, which is left out where it is 0."""
    return None if stats is None else number(stats.get(name, 0))


def _line(line: Any) -> outputs.Line:
    """Read a line of an output: ``response`` with a vector, or ``error`` as gRPC has them."""
    key, error = answers.member(line, "key"), answers.member(line, "error")
    if error is None:
        error = answers.member(line, "response", "error")
    if error is not None:
        code = number(answers.member(error, "code"))
        status = _STATUS.get(code, 500) if code is not None and code <= _LARGEST_CODE else code
        return outputs.Line(key, status=status, error=error)
    response = answers.member(line, "response")
    tokens = number(answers.member(response, "tokenCount"))
    if tokens is None:
        tokens = number(answers.member(response, "usageMetadata", "promptTokenCount"))
    return outputs.Line(key, answers.member(response, "embedding", "values"), tokens)
