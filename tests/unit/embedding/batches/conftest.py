"""A format and its server, called without a database."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest

from evergreen.core.embedding import RequestCanceller
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches import registry
from evergreen.embedding.batches.protocol import BatchApi, BatchLine, BatchResult, RemoteBatch
from tests.fixtures.providers.batches import SERVERS, BatchProvider
from tests.fixtures.stress import often

INTENT = "evergreen-0b9c2f6e"


def hashed(text: str) -> str:
    """The custom_id of a text."""
    return sha256(text.encode()).hexdigest()


@dataclass
class Side:
    """Our side of a batch API: each call with the endpoint and model of a test."""

    server: BatchProvider
    api: BatchApi
    options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    secret: str | None = None
    canceller: RequestCanceller = field(default_factory=RequestCanceller)

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as the catalog would give it."""
        return Endpoint("here", self.server.url, self.secret, {"batch_api": self.api.name, **self.options})

    @property
    def model(self) -> Model:
        """The model as the catalog would give it."""
        options = self.model_options
        return Model(1, "m", self.server.provider, None, self.server.dimensions, options, self.endpoint)

    def lines(self, texts: list[str]) -> bytes:
        """The file of some texts."""
        return b"".join(self.api.line(self.model, BatchLine(hashed(text), text)) for text in texts)

    def upload(self, texts: list[str], name: str = INTENT) -> str:
        """Upload a file of texts."""
        return self.api.upload(self.endpoint, self.model, name, io.BytesIO(self.lines(texts)), self.canceller)

    def find_file(self, name: str = INTENT) -> str | None:
        """Look for a file."""
        return self.api.find_file(self.endpoint, self.model, name, self.canceller)

    def create(self, file_id: str, intent: str = INTENT) -> RemoteBatch:
        """Submit a batch."""
        return self.api.create(self.endpoint, self.model, file_id, intent, self.canceller)

    def find(self, intent: str = INTENT) -> RemoteBatch | None:
        """Look for a batch."""
        return self.api.find(self.endpoint, self.model, intent, self.canceller)

    def get(self, batch: RemoteBatch) -> RemoteBatch:
        """Ask for a batch."""
        return self.api.get(self.endpoint, self.model, batch.id, self.canceller)

    def results(self, batch: RemoteBatch) -> Iterator[BatchResult]:
        """Stream the results."""
        return self.api.results(self.endpoint, self.model, batch, self.canceller)

    def cancel(self, batch: RemoteBatch) -> None:
        """Ask for the end of a batch."""
        self.api.cancel(self.endpoint, self.model, batch.id, self.canceller)

    def delete(self, *file_ids: str) -> None:
        """Delete files."""
        self.api.delete_files(self.endpoint, self.model, file_ids, self.canceller)

    def submitted(self, texts: list[str]) -> RemoteBatch:
        """Upload and submit."""
        return self.create(self.upload(texts))

    def ended(self, texts: list[str]) -> RemoteBatch:
        """Upload, submit and wait for the end."""
        batch = self.submitted(texts)
        self.server.finish()
        return self.get(batch)


#: For what takes long and is the same code for each format.
ONE_FORMAT = pytest.mark.parametrize("side", often(sorted(SERVERS), "openai"), indirect=True)


@pytest.fixture(params=sorted(SERVERS))
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    """Both sides of a format, for each."""
    with SERVERS[request.param]() as server:
        api = registry.batch_api(Endpoint("here", server.url, None, {"batch_api": request.param}))
        assert api is not None
        yield Side(server, api)
