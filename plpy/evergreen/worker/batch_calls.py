"""Calls to batch APIs, in threads: neither a transaction nor a snapshot is held meanwhile."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import ModelError, RetryableError
from evergreen.core.pipeline import Model
from evergreen.core.remote_batch import BatchOfTexts
from evergreen.embedding import exit_guard
from evergreen.embedding.batches.protocol import BatchResult
from evergreen.embedding.endpoint_queue import signals_blocked

_THREADS = 4
_PIECE = 200  # results that are filed in one transaction
_PIECES = 2  # that wait to be filed
_PUT_S = 0.2
_CANCEL_TIMEOUT_S = 5.0

Body = Callable[[RequestCanceller], Any]


class Call:
    """One call for a batch; ``name`` says which."""

    def __init__(self, batch: BatchOfTexts, model: Model, name: str, body: Body) -> None:
        self.batch = batch
        self.model = model
        self.name = name
        self.canceller = RequestCanceller()
        self.future: Future[Any] | None = None
        self.renew_at = time.monotonic()
        self._body = body

    def run(self) -> Any:
        """Make the call, in a thread."""
        return self._body(self.canceller)

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.future is not None and self.future.done()

    def result(self) -> Any:
        """Return what it gave, or the ModelError it ended with."""
        assert self.future is not None
        try:
            return self.future.result()
        except ModelError as error:
            return error

    def cancel(self) -> None:
        """Cut it."""
        self.canceller.cancel()


class Download(Call):
    """Reads the results of a batch, of which only a few are in memory."""

    def __init__(
        self, batch: BatchOfTexts, model: Model, results: Callable[[RequestCanceller], Iterator[BatchResult]]
    ) -> None:
        super().__init__(batch, model, "collect", self._read)
        self._results = results
        self._pieces: queue.Queue[list[BatchResult]] = queue.Queue(_PIECES)
        self._is_cut = threading.Event()

    def _read(self, canceller: RequestCanceller) -> None:
        piece: list[BatchResult] = []
        try:
            for result in self._results(canceller):
                piece.append(result)
                if len(piece) == _PIECE:
                    self._put(piece)
                    piece = []
        finally:
            if piece:
                self._put(piece)  # what came before an error is paid for

    def _put(self, piece: list[BatchResult]) -> None:
        while not self._is_cut.is_set():
            try:
                self._pieces.put(piece, timeout=_PUT_S)
            except queue.Full:
                continue
            return
        raise RetryableError("the download was cut")

    def take(self) -> list[BatchResult] | None:
        """Return the next piece; None if none is there yet."""
        try:
            return self._pieces.get_nowait()
        except queue.Empty:
            return None

    @property
    def is_done(self) -> bool:
        """Whether it has ended and all was taken."""
        return super().is_done and self._pieces.empty()

    def cancel(self) -> None:
        """Cut it."""
        self._is_cut.set()
        super().cancel()


class Calls:
    """The calls under way of one worker."""

    def __init__(self) -> None:
        self.under_way: list[Call] = []
        self._pool: ThreadPoolExecutor | None = None

    @property
    def has_room(self) -> bool:
        """Whether another call may be made."""
        return len(self.under_way) < _THREADS

    def tokens(self) -> list[int]:
        """Return the tokens of the batches in hand."""
        return [call.batch.token for call in self.under_way]

    def start(self, call: Call) -> None:
        """Make a call in a thread."""
        with signals_blocked():
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS)
            call.future = self._pool.submit(call.run)
        self.under_way.append(call)
        exit_guard.watch(call.future, call.canceller)

    def wait(self, seconds: float) -> None:
        """Wait briefly for a call that is nothing but slow."""
        futures = [call.future for call in self.under_way if call.future is not None]
        if futures and not any(call.is_done for call in self.under_way):
            wait(futures, timeout=seconds)

    def close(self) -> None:
        """Cut all calls, and wait for the threads that end by it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        for call in self.under_way:
            call.cancel()
        futures = {call.future: call.canceller for call in self.under_way if call.future is not None}
        exit_guard.end(futures, _CANCEL_TIMEOUT_S)
        self.under_way.clear()
