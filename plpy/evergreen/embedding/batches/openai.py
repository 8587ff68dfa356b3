"""OpenAI's Batch API: https://platform.openai.com/docs/guides/batch and /docs/api-reference/batch."""

from typing import Any

import orjson

from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches.calls import Calls, Json, identifier, number, shown
from evergreen.embedding.batches.files import INTENT, FilesFormat, page_after
from evergreen.embedding.batches.protocol import BatchLine, BatchState, RemoteBatch
from evergreen.embedding.http import answers, parameters
from evergreen.embedding.http.reply import Reply

_URL = "/v1/embeddings"  # of each line, whatever the endpoint's own
#: Why a batch fails that would pass once fewer tokens are enqueued.
_LIMIT = "token_limit_exceeded"
_PAGE = {"files": 1000, "batches": 100}


class OpenAI(FilesFormat):
    """Each line is a request of its own, with method, URL and model."""

    name = "openai"
    # https://platform.openai.com/docs/guides/batch: half the price; 24 hours; 50,000 requests and 200 MB a file, and
    # 50,000 inputs in the batches of /v1/embeddings.
    discount = 0.5
    window = 24 * 3600.0
    max_requests = 50_000
    max_inputs = 50_000
    max_bytes = 200_000_000
    providers: tuple[str, ...] = ("openai",)

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        """Return whom the batch is billed to."""
        return parameters.account_headers(endpoint)

    def body(self, model: Model, line: BatchLine) -> Json:
        """Return the request of one line: the same as without a batch."""
        return {
            "model": model.remote_name or model.name,
            "input": [line.text],
            "encoding_format": model.options.get("encoding_format", "base64"),
            **({"dimensions": model.dimensions} if model.options.get("send_dimensions") else {}),
        }

    def line(self, model: Model, line: BatchLine) -> bytes:
        """Return one line of the file."""
        named = {"custom_id": line.custom_id, "method": "POST", "url": _URL}
        return orjson.dumps({**named, "body": self.body(model, line)}) + b"\n"

    def request(self, model: Model, file_id: str, intent: str) -> Json:
        """Return the JSON that creates a batch."""
        return {
            "input_file_id": file_id,
            "endpoint": _URL,
            "completion_window": "24h",
            "metadata": {INTENT: intent},
        }

    def page(self, calls: Calls, path: str, cursor: Any, query: Json) -> tuple[list[Json], Any]:
        """Return a page of a list."""
        return page_after(calls, path, cursor, {**query, "limit": _PAGE[path]})

    def remote(self, batch: Json, reply: Reply) -> RemoteBatch:
        """Return what a batch's JSON says."""
        files = [batch.get("output_file_id"), batch.get("error_file_id")]
        errors = answers.member(batch, "errors", "data")
        return RemoteBatch(
            identifier(batch.get("id"), "id of a batch"),
            self.states.get(str(batch.get("status")), BatchState.RUNNING),
            tuple(identifier(file, "id of a file") for file in files if file),
            number(answers.member(batch, "request_counts", "completed")),
            number(answers.member(batch, "request_counts", "failed")),
            shown(reply, errors),
            limited=f'"{_LIMIT}"'.encode() in orjson.dumps(errors),
        )
