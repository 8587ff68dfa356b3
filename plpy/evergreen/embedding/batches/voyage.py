"""Voyage's Batch API: https://docs.voyageai.com/docs/batch-inference, a format close to OpenAI's."""

from typing import Any

from evergreen.core.embedding import RequestCanceller
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches.calls import Calls, Json, identifier, number, objects, shown
from evergreen.embedding.batches.files import INTENT, FilesFormat, page_after
from evergreen.embedding.batches.protocol import BatchState, RemoteBatch
from evergreen.embedding.http import answers
from evergreen.embedding.http.reply import Reply


class Voyage(FilesFormat):
    """The batch says model and parameters for all lines. What it has not done in time, it completes as errors."""

    name = "voyage"
    # https://docs.voyageai.com/docs/batch-inference: a third off; 12 hours; 100,000 inputs a batch, 1 GB a file.
    discount = 0.33
    window = 12 * 3600.0
    max_requests = 100_000
    max_inputs = 100_000
    max_bytes = 1_000_000_000
    providers: tuple[str, ...] = ("voyage",)
    path = "v1/embeddings"
    stored_elsewhere = True  # https://docs.voyageai.com/reference/retrieve-file-content: the example follows redirects

    def request(self, model: Model, file_id: str, intent: str) -> Json:
        """Return the JSON that creates a batch: its parameters are those of requests for documents."""
        parameters = {
            "model": model.remote_name or model.name,
            "input_type": "document",
            "truncation": False,
            **({} if model.options.get("encoding_format") == "float" else {"encoding_format": "base64"}),
            **({"output_dimension": model.dimensions} if model.options.get("send_dimensions") else {}),
        }
        return {
            "input_file_id": file_id,
            "endpoint": "/v1/embeddings",
            "completion_window": "12h",
            "request_params": parameters,
            "metadata": {INTENT: intent},
        }

    def page(self, calls: Calls, path: str, cursor: Any, query: Json) -> tuple[list[Json], Any]:
        """Return a page of a list."""
        return page_after(calls, path, cursor, query)

    def remote(self, batch: Json, reply: Reply) -> RemoteBatch:
        """Return what a batch's JSON says."""
        files = [batch.get("output_file_id"), batch.get("error_file_id")]
        errors = batch.get("errors")
        return RemoteBatch(
            identifier(batch.get("id"), "id of a batch"),
            self.states.get(str(batch.get("status")), BatchState.RUNNING),
            tuple(identifier(file, "id of a file") for file in files if file),
            number(answers.member(batch, "request_counts", "completed")),
            number(answers.member(batch, "request_counts", "failed")),
            shown(reply, answers.member(errors, "data") or objects(errors) or None),
        )

    def delete_files(
        self, endpoint: Endpoint, model: Model, file_ids: tuple[str, ...], canceller: RequestCanceller
    ) -> None:
        """Delete each file by a call of its own: of several in a call, none is deleted where one is gone."""
        calls = self.calls(endpoint, canceller)
        for file_id in file_ids:
            calls.settle("POST", "files/delete", {"file_ids": [file_id]})
