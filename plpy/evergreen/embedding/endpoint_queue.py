"""The queue of one endpoint: its tasks by lane, its threads, and its requests in flight."""

import signal
import time
from collections import Counter, deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from evergreen.core.embedding import Answer, EmbeddingTask, Request, RequestBatch
from evergreen.core.errors import ModelError
from evergreen.core.job import Lane
from evergreen.core.pipeline import Model
from evergreen.embedding import exit_guard
from evergreen.embedding.limits.admission import Permit

MAX_IN_FLIGHT = 64  # requests at a time, whatever an endpoint's option max_in_flight says
_JUST_NOW = 10.0  # seconds
_CANCEL_TIMEOUT_S = 1.0  # seconds to wait for requests that were cut
_CANCEL_GRACE_S = 5.0  # seconds that a request has to end after it was cut, before it is left behind


@dataclass
class InFlightRequest:
    """A request under way."""

    task: EmbeddingTask
    batch: RequestBatch
    permit: Permit
    request: Request
    estimated: int  # tokens
    deadline: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    early_deadline: float = float("inf")  # it is cut then, which is not the end of its time
    canceled_early: bool = False
    others_work: bool = False  # other models of the endpoint answer

    def run(self) -> Answer:
        """Make the request, in its thread."""
        self.began = time.monotonic()
        try:
            return self.task.provider.embed(self.task.model, self.request)
        finally:
            self.ended = time.monotonic()


@dataclass
class EndpointQueue:
    """Sends what it is given, ``width`` requests at a time, tasks in turn and live work before backfill."""

    width: int
    is_sql: bool = False
    blocked_until: float = 0.0  # no permit is given before
    in_flight: dict[Future[Answer], InFlightRequest] = field(default_factory=dict[Future[Answer], InFlightRequest])
    answers: Counter[int] = field(default_factory=Counter[int])  # good ones, by model
    answered_at: dict[int, float] = field(default_factory=dict[int, float])  # monotonic, by model
    evidence_used: Counter[int] = field(
        default_factory=Counter[int]
    )  # by model: the last answer that was evidence against some text
    _lanes: dict[Lane, deque[EmbeddingTask]] = field(
        default_factory=lambda: {lane: deque[EmbeddingTask]() for lane in Lane}
    )
    _tokens_sent: dict[Lane, float] = field(default_factory=lambda: dict.fromkeys(Lane, 0.0))
    _pool: ThreadPoolExecutor | None = None

    def add(self, task: EmbeddingTask) -> None:
        """Queue a task that has something to send, unless it is queued already."""
        if task.waiting and not any(one is task for one in self._lanes[task.lane]):
            self._lanes[task.lane].append(task)

    def remove(self, task: EmbeddingTask) -> None:
        """Remove a task."""
        self._lanes[task.lane] = deque(one for one in self._lanes[task.lane] if one is not task)

    def tasks(self) -> list[EmbeddingTask]:
        """Return the tasks that have something to send."""
        return [task for lane in Lane for task in self._lanes[lane]]

    def queued_batches(self, lane: Lane) -> int:
        """Count what waits to be sent in a lane."""
        return sum(len(task.waiting) for task in self._lanes[lane])

    def ready_in(self, now: float) -> float:
        """Return the seconds until a permit may be asked for one of the tasks."""
        return max(self.blocked_until, min((task.deferred_until for task in self.tasks()), default=0.0)) - now

    def _probes(self, model: Model) -> bool:
        return any(sent.permit.probe and sent.task.model.id == model.id for sent in self.in_flight.values())

    def lanes(self) -> list[Lane]:
        """Return the lanes with something to send, the one whose turn it is first."""
        filled = [lane for lane in Lane if self._lanes[lane]]
        if len(filled) == 1:
            self._tokens_sent = dict.fromkeys(self._tokens_sent, 0.0)
        if len(filled) <= 1:
            return filled
        share = self._lanes[Lane.LIVE][0].live_share
        is_owed = self._tokens_sent[Lane.LIVE] * (1 - share) > self._tokens_sent[Lane.BACKFILL] * share
        return [Lane.BACKFILL, Lane.LIVE] if is_owed else [Lane.LIVE, Lane.BACKFILL]

    def next(self, lane: Lane) -> EmbeddingTask | None:
        """Return the next task of a lane; not one that has to wait for an answer in flight."""
        now = time.monotonic()
        ready = (task for task in self._lanes[lane] if task.deferred_until <= now)
        return next((task for task in ready if self._may_send(task) and not self._probes(task.model)), None)

    def _may_send(self, task: EmbeddingTask) -> bool:
        """Return whether a task may send: one at a time after a failure, until it is known that the endpoint works."""
        batch = task.waiting[0]
        if task.unresolved and not (batch.canary or batch.endpoint_works):
            return False
        if batch.alone and self.width > 1 and self._alone() >= self.width // 2:
            return False  # each may hold its seat until its time is over
        is_open = batch.since is not None and self.answers[task.model.id] <= batch.since
        return not ((is_open or batch.alone) and task.in_flight)

    def _alone(self) -> int:
        """Count the requests under way with a text that is sent alone because it made others fail."""
        return sum(sent.batch.alone for sent in self.in_flight.values())

    def tries_size(self, model: Model) -> bool:
        """Return whether a request is under way that is larger than any that passed since one was too large."""
        in_flight = [sent for sent in self.in_flight.values() if sent.task.model.id == model.id]
        return any(0 < sent.permit.capacity.good < len(sent.batch.keys) for sent in in_flight)

    def note_answer(self, model: Model, *, works: bool) -> None:
        """Note that a model gave a good vector."""
        if works:
            self.answers[model.id] += 1
            self.answered_at[model.id] = time.monotonic()

    def others_work(self, model: Model) -> bool:
        """Return whether another model of the endpoint has just answered: then it is not the endpoint that is down."""
        since = time.monotonic() - _JUST_NOW
        return any(at > since for other, at in self.answered_at.items() if other != model.id)

    def has_canary(self, model: Model) -> bool:
        """Return whether a harmless text is under way to a model."""
        return any(sent.batch.canary and sent.task.model.id == model.id for sent in self.in_flight.values())

    def note_sent(self, task: EmbeddingTask, tokens: int) -> None:
        """Note what a task has sent; the others of its lane come before it is served again."""
        self._tokens_sent[task.lane] += tokens
        self.remove(task)
        self.add(task)

    def start(self, sent: InFlightRequest) -> None:
        """Send a request in a thread."""
        task = sent.task
        sent.deadline = time.monotonic() + task.model.total_timeout
        with signals_blocked():
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MAX_IN_FLIGHT)  # a thread is started when it is needed
            future = self._pool.submit(sent.run)
        self.in_flight[future] = sent
        exit_guard.watch(future, sent.request.canceller)

    def overdue(self) -> list[InFlightRequest]:
        """Cancel the requests whose time is over; return those that do not even end then, and abandon them."""
        now = time.monotonic()
        lost: list[InFlightRequest] = []
        for future, sent in list(self.in_flight.items()):
            if now > sent.deadline + _CANCEL_GRACE_S:
                lost.append(self.in_flight.pop(future))
            elif now > min(sent.deadline, sent.early_deadline):
                sent.canceled_early = now <= sent.deadline
                sent.request.canceller.cancel()
        if lost and self._pool is not None:
            self._pool.shutdown(wait=False)  # its threads hang: the next request finds new ones
            self._pool = None
        return lost

    def close(self) -> None:
        """Cancel all requests, and wait for the threads that end by it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        exit_guard.end({future: sent.request.canceller for future, sent in self.in_flight.items()}, _CANCEL_TIMEOUT_S)


def answer(future: Future[Answer]) -> Answer | ModelError:
    """Return what a request that has ended gave."""
    try:
        return future.result()
    except ModelError as error:
        return error


@contextmanager
def signals_blocked() -> Generator[None]:
    """Threads started in here inherit the mask: the backend's signals stay with the backend's own thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
