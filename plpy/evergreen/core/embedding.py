"""Texts on their way to a model, and what comes back."""

import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from evergreen.core.errors import ModelError
from evergreen.core.frozen import frozen
from evergreen.core.job import Lane
from evergreen.core.pipeline import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]  # shape (dimensions,)
else:
    Vector = Any  # importing numpy takes a session 60 ms, and many never see a vector

Vectors = list[Vector]  # one per text, in the order of the texts
Texts = dict[bytes, str]  # by hash
#: A vector as the model gave it, or as pgvector's ``vector_send`` did: two bytes of dimensions, two unused, floats.
AnyVector = Vector | bytes


@frozen
class Limits:
    """Limits of one request, and of requests in flight. Tokens are estimates, see ``core.text``.

    ``claim``: rows worth claiming at a time where a request holds fewer, because the model answers soon.
    """

    inputs: int
    request_tokens: int | None = None
    input_tokens: int | None = None
    in_flight: int = 1
    claim: int = 0


@frozen
class Answer:
    """What came back: the vectors, the tokens that were billed, and for how long nothing more should be sent."""

    vectors: Vectors
    tokens: int | None = None  # None where the provider does not say
    pause: float = 0.0  # seconds, from the rate limits in the answer's headers
    served_as: str | None = None  # what the server calls the model


class RequestCanceller:
    """Cancels a request from another thread, by shutting down the socket that it waits on."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._canceled = False

    def attach(self, held: socket.socket | None) -> None:
        """Set the socket; after a cancel it is shut down at once."""
        self._socket = held
        if self._canceled:
            self.cancel()

    def cancel(self) -> None:
        """Shut the socket down, from any thread: what waits on it sees the connection closed."""
        self._canceled = True
        held = self._socket
        if held is not None:
            try:
                # Not SSLSocket.shutdown, which would pull the TLS state from under the reading thread.
                socket.socket.shutdown(held, socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already


@frozen
class Request:
    """Texts to embed. ``kind``: 'document' or 'query'; ``truncate``: the server may cut over-long texts.

    ``is_look``: the answer says by which model it was made, as far as the server can be asked.
    """

    texts: list[str]
    kind: str
    truncate: bool = False
    is_look: bool = False
    canceller: RequestCanceller = field(default_factory=RequestCanceller, compare=False)


class Provider(Protocol):
    """Turns texts into vectors."""

    #: Runs in this process and costs nothing: a text in flight twice is not worth a row in embed.in_flight.
    free: bool
    #: Must run on the main thread, because it runs SQL.
    sql: bool
    #: A text without any meaning to the model has the vector of zeros, which no search finds.
    zeros: bool

    def check(self, model: Model) -> None:
        """Raise UserError when a model of this provider cannot be as it is registered."""
        ...

    def limits(self, model: Model) -> Limits:
        """Return what one request may hold: the provider's own limits unless the model's options say otherwise."""
        ...

    def embed(self, model: Model, request: Request) -> Answer:
        """Return one vector per text, in order; the caller checks their dimension and that they are finite.

        Runs in a thread unless ``sql``. Raises RetryableError (with ``pause`` where the server said how long),
        RejectedError or SuspectError (a text of this request may be to blame), ConfigurationError.
        """
        ...


@dataclass
class TaskResult:
    """What became of each text, by hash; those in neither are to be tried again."""

    vectors: dict[bytes, Vector] = field(default_factory=dict[bytes, Vector])
    failures: dict[bytes, ModelError] = field(default_factory=dict[bytes, ModelError])


@dataclass
class Usage:
    """What a task cost: requests, texts and tokens, as billed or else estimated."""

    calls: int = 0
    texts: int = 0
    tokens: int = 0


@dataclass
class RequestBatch:
    """Texts that travel in one request. ``canary``: a harmless text instead, to see whether any would do.

    ``since``: how many answers the model had given when these texts failed; None where they did not. When it has given
    more, it is not the endpoint that fails. ``endpoint_works``: it was found to work when a larger batch with
    these texts failed. ``error``: what they, or a larger batch with them, failed with. ``alone``: it may bring the
    server down, so the task has no other request in flight meanwhile.
    """

    keys: list[bytes]
    tries: int = 0
    canary: bool = False
    since: int | None = None
    endpoint_works: bool = False
    error: ModelError | None = None
    alone: bool = False
    split: "SplitRequest | None" = None


@dataclass
class SplitRequest:
    """A failed request that is sent in parts: if all of them pass, it was too large."""

    size: int
    left: int
    good: int = 0
    limited: int = 0  # parts after which the server asked for fewer requests

    def is_limited(self) -> bool:
        """Note that the server asks for fewer requests; return whether it does so of several parts, and none passed."""
        self.limited += 1
        return self.limited > 1 and not self.good

    def passed(self, texts: int) -> bool:
        """Note that a part passed; return whether it was the last."""
        self.left -= texts
        self.good = max(self.good, texts)
        return self.left == 0


@dataclass
class FailedRequest:
    """A batch that failed as a whole, while it is not known whether the endpoint works."""

    batch: RequestBatch
    error: ModelError


@frozen
class Budget:
    """Whose money it is: a pipeline, with what it may spend a day in all."""

    pipeline: int
    tokens: float | None = None
    cost: float | None = None


@dataclass
class EmbeddingTask:
    """Texts by hash, to be sent to one model."""

    provider: Provider
    model: Model
    texts: Texts
    kind: str = "document"
    lane: Lane = Lane.LIVE
    live_share: float = 0.8
    truncate: bool = False
    retries: bool = True  # False: a caller waits for the answer, so the first failure is final
    is_look: bool = False  # the watch asks, see Request
    budget: Budget | None = None
    result: TaskResult = field(default_factory=TaskResult)
    usage: Usage = field(default_factory=Usage)
    waiting: deque[RequestBatch] = field(default_factory=deque[RequestBatch])
    in_flight: int = 0
    awaited: set[bytes] = field(default_factory=set[bytes])  # texts that another task is sending
    unsent: set[bytes] = field(default_factory=set[bytes])  # texts that were given up without a try
    served_as: str | None = None  # what the server called the model in the last answer
    owner: Any = None  # as given to RequestDispatcher.submit
    pause: float = 0.0  # seconds after which it is worth trying those
    last_error: ModelError | None = None  # of the last request, where no text of it is at fault
    max_batch: dict[bytes, int] = field(default_factory=dict[bytes, int])  # the most texts in a request with this one
    size_on_trial: bool = False  # a request of a size that failed is under way: no second one at a time
    canary_first: bool = True  # a suspect may crash the server, so a harmless text goes first
    unresolved: list[FailedRequest] = field(default_factory=list[FailedRequest])
    isolating_since: float = 0.0  # monotonic: since when a failed batch is bisected; 0: none is
    deferred_until: float = 0.0  # monotonic: it asks for no permit before, while other tasks of its queue may
    suspects: dict[bytes, ModelError] = field(default_factory=dict[bytes, ModelError])  # refused before any text passed
    model_verified: bool = False  # some text passed: a refusal is the text's own fault

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return not self.waiting and not self.in_flight and not self.awaited and not self.unresolved
