"""What the formats that follow OpenAI's share: the Files API, lines, and outputs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import orjson

from evergreen.core.embedding import RequestCanceller
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches import outputs
from evergreen.embedding.batches.calls import Answered, Calls, Json, identifier, number, objects
from evergreen.embedding.batches.protocol import BatchLine, BatchResult, BatchState, RemoteBatch
from evergreen.embedding.http import answers
from evergreen.embedding.http.reply import Reply
from evergreen.embedding.http.urls import joined

#: Under this name a batch's metadata hold our intent.
INTENT = "evergreen_intent"


class FilesFormat(ABC):
    """A format with OpenAI's files and lines: subclasses say how a batch is created, listed and understood."""

    name: str
    discount: float
    window: float
    max_requests: int
    max_inputs: int
    max_bytes: int
    providers: tuple[str, ...]
    #: Where requests go, below the endpoint's URL.
    path = "embeddings"
    #: The content of a file may be a redirect to a store.
    stored_elsewhere = False
    #: Where batches are, below the root.
    batches = "batches"
    #: By the provider's word; these are OpenAI's. A word that is not here is that of a batch that goes on: the deadline
    #: ends the wait for it.
    states = {  # noqa: RUF012
        "validating": BatchState.VALIDATING,
        "in_progress": BatchState.RUNNING,
        "finalizing": BatchState.RUNNING,
        "cancelling": BatchState.RUNNING,
        "completed": BatchState.DONE,
        "failed": BatchState.FAILED,
        "expired": BatchState.EXPIRED,
        "cancelled": BatchState.CANCELLED,
    }

    @abstractmethod
    def request(self, model: Model, file_id: str, intent: str) -> Json:
        """Return the JSON that creates a batch."""

    @abstractmethod
    def remote(self, batch: Json, reply: Reply) -> RemoteBatch:
        """Return what a batch's JSON says."""

    @abstractmethod
    def page(self, calls: Calls, path: str, cursor: Any, query: Json) -> tuple[list[Json], Any]:
        """Return a page of a list, and the next cursor or None."""

    def body(self, model: Model, line: BatchLine) -> Json:
        """Return the request of one line."""
        return {"input": [line.text]}

    def line(self, model: Model, line: BatchLine) -> bytes:
        """Return one line of the file."""
        return orjson.dumps({"custom_id": line.custom_id, "body": self.body(model, line)}) + b"\n"

    def calls(self, endpoint: Endpoint, canceller: RequestCanceller) -> Calls:
        """Return the calls below the root that embeddings are below, too."""
        url = joined(endpoint.url, self.path)
        return Calls(endpoint, url.removesuffix("/embeddings"), canceller, self.headers(endpoint))

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        """Return additional headers."""
        return {}

    def upload(self, endpoint: Endpoint, model: Model, name: str, lines: BinaryIO, canceller: RequestCanceller) -> str:
        """Upload a file of lines."""
        answered = self.calls(endpoint, canceller).upload("files", lines, f"{name}.jsonl", {"purpose": "batch"})
        return identifier(answered.json.get("id"), "id of a file")

    def find_file(self, endpoint: Endpoint, model: Model, name: str, canceller: RequestCanceller) -> str | None:
        """Look for a file in the list."""
        calls = self.calls(endpoint, canceller)
        for file in calls.pages(lambda cursor: self.page(calls, "files", cursor, {"purpose": "batch"})):
            if file.get("filename") == f"{name}.jsonl":
                return identifier(file.get("id"), "id of a file")
        return None

    def create(
        self, endpoint: Endpoint, model: Model, file_id: str, intent: str, canceller: RequestCanceller
    ) -> RemoteBatch:
        """Submit a batch."""
        return self._read(self.calls(endpoint, canceller).post(self.batches, self.request(model, file_id, intent)))

    def find(self, endpoint: Endpoint, model: Model, intent: str, canceller: RequestCanceller) -> RemoteBatch | None:
        """Look for a batch in the list, and ask for it."""
        calls = self.calls(endpoint, canceller)
        for batch in calls.pages(lambda cursor: self.page(calls, self.batches, cursor, {})):
            if answers.member(batch, "metadata", INTENT) == intent:
                return self.get(endpoint, model, identifier(batch.get("id"), "id of a batch"), canceller)
        return None

    def get(self, endpoint: Endpoint, model: Model, batch_id: str, canceller: RequestCanceller) -> RemoteBatch:
        """Ask for a batch."""
        return self._read(self.calls(endpoint, canceller).get(f"{self.batches}/{batch_id}"))

    def results(
        self, endpoint: Endpoint, model: Model, batch: RemoteBatch, canceller: RequestCanceller
    ) -> Iterator[BatchResult]:
        """Stream the outputs."""
        return outputs.read_all(
            self.calls(endpoint, canceller),
            model,
            batch,
            "files/{}/content".format,
            _line,
            self.max_requests,
            stored_elsewhere=self.stored_elsewhere,
        )

    def cancel(self, endpoint: Endpoint, model: Model, batch_id: str, canceller: RequestCanceller) -> None:
        """Ask for the end of a batch."""
        self.calls(endpoint, canceller).settle("POST", f"{self.batches}/{batch_id}/cancel")

    def delete_files(
        self, endpoint: Endpoint, model: Model, file_ids: tuple[str, ...], canceller: RequestCanceller
    ) -> None:
        """Delete each file."""
        calls = self.calls(endpoint, canceller)
        for file_id in file_ids:
            calls.settle("DELETE", f"files/{file_id}")

    def _read(self, answered: Answered) -> RemoteBatch:
        return replace(self.remote(answered.json, answered.reply), retry_after=answered.retry_after)


def page_after(calls: Calls, path: str, after: str | None, query: Json) -> tuple[list[Json], str | None]:
    """Return a page of a list whose cursor is the last id."""
    found = calls.get(path, after=after, **query).json
    items = objects(found.get("data"))
    return items, identifier(items[-1].get("id"), "id of an item") if items and found.get("has_more") else None


def _line(line: Any) -> outputs.Line:
    """Read a line of an output: ``response`` with status and body, or ``error``."""
    response = answers.member(line, "response")
    body = answers.member(response, "body")
    status = number(answers.member(response, "status_code"))
    error = answers.member(line, "error")
    custom_id = answers.member(line, "custom_id")
    if error is not None or status != 200:  # noqa: PLR2004
        return outputs.Line(custom_id, status=status, error=error or body or response or "nothing")
    items = answers.in_order(answers.member(body, "data"), "embedding")
    tokens = number(answers.member(body, "usage", "total_tokens"))
    if tokens is None:
        tokens = number(answers.member(body, "usage", "prompt_tokens"))
    return outputs.Line(custom_id, items[0] if len(items) == 1 else None, tokens, status)
