"""Send texts to a model: packed into requests, several in flight, a refused one halved until the culprit is alone."""

import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from evergreen.errors import ConfigurationError, ModelError, RejectedError, RetryableError
from evergreen.model.provider import Limits, Provider, Vector, Vectors
from evergreen.model.request import Request
from evergreen.model.spec import Model

Texts = dict[bytes, str]

_SLICE = 0.1  # seconds between two looks at cancel, statement_timeout and the snapshot
_CHARACTERS_A_TOKEN = 4
_FAILURES_IN_A_ROW = 8


@dataclass
class Outcome:
    """What became of each text, by hash."""

    vectors: dict[bytes, Vector] = field(default_factory=dict[bytes, Vector])
    failures: dict[bytes, ModelError] = field(default_factory=dict[bytes, ModelError])


def embed(provider: Provider, model: Model, texts: Texts, kind: str, breathe: Callable[[], None]) -> Outcome:
    """Embed every text once. ``breathe`` is called on this thread at least every 100 ms while a model works."""
    sender = _Sender(model, provider, texts, kind)
    if sender.provider.sql:
        for request in sender.requests():
            sender.finish(request, sender.call(request))
            breathe()
    else:
        _in_threads(sender, breathe)
    return sender.outcome


def pack(texts: Texts, limits: Limits) -> Iterator[list[bytes]]:
    """Group texts into requests by number and by tokens."""
    request: list[bytes] = []
    tokens = 0
    for key, text in texts.items():
        cost = len(text) // _CHARACTERS_A_TOKEN + 1
        full = len(request) >= limits.inputs or (limits.request_tokens and tokens + cost > limits.request_tokens)
        if request and full:
            yield request
            request, tokens = [], 0
        request.append(key)
        tokens += cost
    if request:
        yield request


class _Sender:
    """The requests still to send and what came of those that were sent."""

    def __init__(self, model: Model, provider: Provider, texts: Texts, kind: str) -> None:
        self.model = model
        self.provider = provider
        self.texts = texts
        self.kind = kind
        self.outcome = Outcome()
        self.waiting = list(pack(texts, provider.limits(model)))
        self.waiting.reverse()
        self.failed_in_a_row = 0

    def requests(self) -> Iterator[list[bytes]]:
        """Yield what is still to send; halves of a refused request come first."""
        while self.waiting:
            yield self.waiting.pop()

    def call(self, request: list[bytes]) -> Vectors | ModelError:
        """Call the model; runs in a thread, so it touches nothing that is shared."""
        try:
            wanted = Request([self.texts[key] for key in request], self.kind)
            return self._checked(self.provider.embed(self.model, wanted).vectors, len(request))
        except ModelError as error:
            return error

    def _checked(self, vectors: Vectors, count: int) -> Vectors:
        if len(vectors) != count:
            raise RejectedError(f"model {self.model.name}: {count} texts gave {len(vectors)} vectors")
        other = next((v.shape for v in vectors if v.shape != (self.model.dimensions,)), None)
        if other is not None:
            raise ConfigurationError(
                f"model {self.model.name} is registered with {self.model.dimensions} dimensions, not {other}"
            )
        return vectors

    def finish(self, request: list[bytes], result: Vectors | ModelError) -> None:
        """Take a result in: vectors, halves to try again, or failures."""
        if not isinstance(result, ModelError):
            self._take(request, result)
            return
        self.failed_in_a_row += len(request) == 1  # halves that fail too only lead to the culprit
        if isinstance(result, RejectedError) and len(request) == 1:
            self.outcome.failures[request[0]] = result
        elif isinstance(result, RejectedError):
            middle = len(request) // 2
            self.waiting += [request[middle:], request[:middle]]
        else:
            self._give_up(request, result)
        if self.waiting and self.failed_in_a_row >= _FAILURES_IN_A_ROW and not self.outcome.vectors:
            self._give_up([], RetryableError(str(result)))

    def _take(self, request: list[bytes], vectors: Vectors) -> None:
        self.failed_in_a_row = 0
        finite = [bool(np.isfinite(vector).all()) for vector in vectors]
        for key, vector, good in zip(request, vectors, finite, strict=True):
            if good:
                self.outcome.vectors[key] = vector
            else:
                self.outcome.failures[key] = RejectedError(f"model {self.model.name} gave NaN or infinity for a text")

    def _give_up(self, request: list[bytes], error: ModelError) -> None:
        """No text is to blame: whatever was not sent yet would fail too."""
        for key in [*request, *(key for other in self.waiting for key in other)]:
            self.outcome.failures[key] = error
        self.waiting.clear()


def _in_threads(sender: _Sender, breathe: Callable[[], None]) -> None:
    workers = sender.provider.limits(sender.model).in_flight
    with _signals_blocked():
        pool = ThreadPoolExecutor(workers)
        flying: dict[Future[Vectors | ModelError], list[bytes]] = {}

        def launch() -> None:
            while len(flying) < workers and sender.waiting:
                request = sender.waiting.pop()
                flying[pool.submit(sender.call, request)] = request

        launch()
    try:
        while flying:
            done, _ = wait(flying, timeout=_SLICE, return_when=FIRST_COMPLETED)
            for future in done:
                sender.finish(flying.pop(future), future.result())
            with _signals_blocked():
                launch()
            breathe()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _signals_blocked() -> Generator[None]:
    """Threads started in here inherit the mask: the backend's signals stay with the backend's own thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
