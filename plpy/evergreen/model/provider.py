"""What a provider is: texts in, unit-independent float32 vectors out. One file each, one line in the registry."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evergreen.model.spec import Model

Vectors = NDArray[np.float32]  # one row a text
Vector = NDArray[np.float32]  # one of them


@dataclass(frozen=True)
class Limits:
    """What one request may hold (tokens are estimated at four characters each), and how many may be under way."""

    inputs: int
    request_tokens: int | None = None
    input_tokens: int | None = None
    in_flight: int = 1


class Provider(Protocol):
    """Turns texts into vectors."""

    #: Runs in this process and costs nothing: a text in flight twice is not worth a row in embed.inflight.
    free: bool
    #: Must run on the main thread, because it runs SQL.
    sql: bool

    def check(self, model: Model) -> None:
        """Raise UserError when a model of this provider cannot be as it is registered."""
        ...

    def limits(self, model: Model) -> Limits:
        """Return what one request may hold."""
        ...

    def embed(self, model: Model, texts: list[str], kind: str) -> Vectors:
        """Return one vector a text, shape (len(texts), any), in order. ``kind``: 'document' or 'query'.

        Raises RetryableError, RejectedError or ConfigurationError.
        """
        ...
