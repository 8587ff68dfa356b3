"""What the batch lane asks of a provider's batch API, and what it is told."""

from collections.abc import Iterator
from enum import Enum
from typing import BinaryIO, Protocol

from evergreen.core.embedding import RequestCanceller, Vector
from evergreen.core.errors import ConfigurationError, ModelError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint, Model


class NotFoundError(ConfigurationError):
    """The provider has no such batch or file (404 or 410): deleted, expired, or of another account."""


class BatchState(Enum):
    """Where a batch stands at the provider."""

    VALIDATING = "validating"
    RUNNING = "running"  # also while results are put together, or a cancellation is under way
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it stays so. Each final state may have outputs, which were billed: read them first."""
        return self not in {BatchState.VALIDATING, BatchState.RUNNING}


@frozen
class BatchLine:
    """One text of a batch. ``custom_id``: its hash in hex; ``text``: with the model's document prompt in front."""

    custom_id: str
    text: str


@frozen
class RemoteBatch:
    """What the provider says of a batch.

    ``outputs``: ids of the files with results and with the errors of single lines; ``error``: why it failed, with
    the numbers of refused lines, secrets masked; ``limited``: it failed because too much is enqueued, and would pass
    later; ``retry_after``: seconds to wait before the next request for it, where the provider says so.
    """

    id: str
    state: BatchState
    outputs: tuple[str, ...] = ()
    succeeded: int | None = None
    failed: int | None = None
    error: str | None = None
    limited: bool = False
    retry_after: float | None = None


@frozen
class BatchResult:
    """One line of an output: either a vector of the model's dimensions and finite, or an error.

    ``custom_id``: as it came, so it may be no text of the batch; None in a line that cannot be read. ``error``:
    RejectedError where the text is at fault, RetryableError or ConfigurationError where it is not, SuspectError
    where the answer does not tell.
    """

    custom_id: str | None
    vector: Vector | None = None
    tokens: int | None = None  # as billed, where the line says so
    error: ModelError | None = None


class BatchApi(Protocol):
    """One format. No call retries; each raises ModelError as a request does, its message without secrets.

    Nothing is created twice by asking twice, except by ``upload`` and ``create``: after a lost answer look with
    ``find_file`` and ``find``. Every method blocks: run it in a thread.
    """

    #: As the endpoint option batch_api has it.
    name: str
    #: How much cheaper than requests, as documented: 0.5 is half the price.
    discount: float
    #: Seconds within which the provider promises a result.
    window: float
    #: Limits of one batch: lines, texts, bytes of the file.
    max_requests: int
    max_inputs: int
    max_bytes: int
    #: Models of these providers have the same vectors by requests and by batch.
    providers: tuple[str, ...]

    def line(self, model: Model, line: BatchLine) -> bytes:
        """Return one line of the file, with its line break."""
        ...

    def upload(self, endpoint: Endpoint, model: Model, name: str, lines: BinaryIO, canceller: RequestCanceller) -> str:
        """Upload a file of lines from its beginning to its end; return its id. ``name``: ``[a-z0-9-]``, unique."""
        ...

    def find_file(self, endpoint: Endpoint, model: Model, name: str, canceller: RequestCanceller) -> str | None:
        """Return the id of an uploaded file of this name, from all pages of the list."""
        ...

    def create(
        self, endpoint: Endpoint, model: Model, file_id: str, intent: str, canceller: RequestCanceller
    ) -> RemoteBatch:
        """Submit a batch of a file. ``intent`` is what ``find`` finds it by."""
        ...

    def find(self, endpoint: Endpoint, model: Model, intent: str, canceller: RequestCanceller) -> RemoteBatch | None:
        """Return the batch that was created with this intent, from all pages of the list."""
        ...

    def get(self, endpoint: Endpoint, model: Model, batch_id: str, canceller: RequestCanceller) -> RemoteBatch:
        """Return what has become of a batch; raises NotFoundError."""
        ...

    def results(
        self, endpoint: Endpoint, model: Model, batch: RemoteBatch, canceller: RequestCanceller
    ) -> Iterator[BatchResult]:
        """Stream the lines of all outputs, one in memory at a time, in any order.

        Raises after the lines that came: RetryableError when the connection broke or the file ends too early,
        NotFoundError when an output is gone, once the other outputs are read. Close the iterator to end the download.
        """
        ...

    def cancel(self, endpoint: Endpoint, model: Model, batch_id: str, canceller: RequestCanceller) -> None:
        """Ask for a batch to end, which takes a while; no error if it is over or gone."""
        ...

    def delete_files(
        self, endpoint: Endpoint, model: Model, file_ids: tuple[str, ...], canceller: RequestCanceller
    ) -> None:
        """Delete files; no error for one that is gone or that the provider does not let anyone delete."""
        ...
