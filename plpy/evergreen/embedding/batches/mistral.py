"""Mistral's Batch API: https://docs.mistral.ai/capabilities/batch and /api/endpoint/batch."""

from typing import Any

from evergreen.core.pipeline import Model
from evergreen.embedding.batches.calls import Calls, Json, identifier, number, objects, shown
from evergreen.embedding.batches.files import INTENT, FilesFormat
from evergreen.embedding.batches.protocol import BatchLine, BatchState, RemoteBatch
from evergreen.embedding.http.reply import Reply

_HOURS = 24
_PAGE = 100


class Mistral(FilesFormat):
    """A job says the model for all lines; lists have numbered pages."""

    name = "mistral"
    # https://docs.mistral.ai/capabilities/batch: half the price; up to 1,000,000 requests; files of up to 512 MB.
    discount = 0.5
    window = _HOURS * 3600.0
    max_requests = 1_000_000
    max_inputs = 1_000_000
    max_bytes = 512_000_000
    providers: tuple[str, ...] = ("openai",)
    batches = "batch/jobs"
    states = {  # noqa: RUF012
        "QUEUED": BatchState.VALIDATING,
        "RUNNING": BatchState.RUNNING,
        "CANCELLATION_REQUESTED": BatchState.RUNNING,
        "SUCCESS": BatchState.DONE,
        "FAILED": BatchState.FAILED,
        "TIMEOUT_EXCEEDED": BatchState.EXPIRED,
        "CANCELLED": BatchState.CANCELLED,
    }

    def body(self, model: Model, line: BatchLine) -> Json:
        """Return the request of one line."""
        form = {} if model.options.get("encoding_format") == "float" else {"encoding_format": "base64"}
        return {"input": [line.text], **form}

    def request(self, model: Model, file_id: str, intent: str) -> Json:
        """Return the JSON that creates a job."""
        return {
            "input_files": [file_id],
            "endpoint": "/v1/embeddings",
            "model": model.remote_name or model.name,
            "timeout_hours": _HOURS,
            "metadata": {INTENT: intent},
        }

    def page(self, calls: Calls, path: str, cursor: Any, query: Json) -> tuple[list[Json], Any]:
        """Return a numbered page of a list."""
        place = int(cursor or 0)
        items = objects(calls.get(path, page=place, page_size=_PAGE, **query).json.get("data"))
        return items, place + 1 if items else None

    def remote(self, batch: Json, reply: Reply) -> RemoteBatch:
        """Return what a job's JSON says."""
        files = [batch.get("output_file"), batch.get("error_file")]
        return RemoteBatch(
            identifier(batch.get("id"), "id of a batch"),
            self.states.get(str(batch.get("status")), BatchState.RUNNING),
            tuple(identifier(file, "id of a file") for file in files if file),
            number(batch.get("succeeded_requests")),
            number(batch.get("failed_requests")),
            shown(reply, batch.get("errors")),
        )
