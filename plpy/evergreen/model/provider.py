"""What a provider is: texts in, float32 vectors out. One file each, one line in the registry."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evergreen.model.request import Request
from evergreen.model.spec import Model

Vector = NDArray[np.float32]  # shape (dimensions,)
Vectors = list[Vector]  # one a text, in the order of the texts
Texts = dict[bytes, str]  # by hash


@dataclass(frozen=True)
class Limits:
    """What one request may hold (tokens by our own estimate, see tokens.py), and how many may be under way."""

    inputs: int
    request_tokens: int | None = None
    input_tokens: int | None = None
    in_flight: int = 1


@dataclass(frozen=True)
class Answer:
    """What came back: the vectors, the tokens that were billed, and for how long nothing more should be sent."""

    vectors: Vectors
    tokens: int | None = None  # None where the provider does not say
    pause: float = 0.0  # seconds, from the rate limits in the answer's headers


class Provider(Protocol):
    """Turns texts into vectors."""

    #: Runs in this process and costs nothing: a text in flight twice is not worth a row in embed.inflight.
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
        """Return one vector a text, in order; the caller checks their dimension and that they are finite.

        Runs in a thread unless ``sql``. Raises RetryableError (with ``pause`` where the server said how long),
        RejectedError or SuspectError (a text of this request may be to blame), ConfigurationError.
        """
        ...
