"""Sends the texts of many tasks to their models, several requests at a time; only the requests run in threads."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any

from evergreen.core import text
from evergreen.core.embedding import (
    Answer,
    Budget,
    EmbeddingTask,
    Limits,
    Provider,
    Request,
    RequestBatch,
    TaskResult,
)
from evergreen.core.errors import CircuitOpenError, ModelError, RetryableError, doubtful
from evergreen.core.job import Lane
from evergreen.core.pipeline import Model
from evergreen.core.step import Step, run_directly
from evergreen.embedding import fault_isolation
from evergreen.embedding.admission_client import AdmissionClient
from evergreen.embedding.batching import fitting, pack_task
from evergreen.embedding.endpoint_queue import EndpointQueue, InFlightRequest, answer
from evergreen.embedding.limits import capacity
from evergreen.embedding.limits.admission import AdmissionControl, Permit, Unlimited
from evergreen.embedding.response import classify
from evergreen.embedding.results import Results

_SLICE = 0.1  # seconds between two looks at cancel, statement_timeout and the snapshot
_CANARY = "evergreen"
_LOOK = 1.0  # seconds after which a permit is asked for again: limits may have been changed
_LONGEST_PAUSE = 30.0  # seconds for which rows are put back that wait for their turn


class RequestDispatcher:
    """Runs tasks until they are done. All methods are for the main thread; only requests run in others."""

    def __init__(
        self, admission: AdmissionControl, step: Step, on_tick: Callable[[], None], *, longest_wait: float
    ) -> None:
        """``on_tick`` is called at least every 100 ms; ``longest_wait``: seconds to wait for a permit."""
        self._admission = AdmissionClient(admission, step)
        self._step = step
        self._on_tick = on_tick
        self._longest_wait = longest_wait
        self._stopped = False
        self._queues: dict[str, EndpointQueue] = {}
        self._tasks: list[EmbeddingTask] = []
        self._results = Results()
        self._names: dict[int, str] = {}  # what servers call their models

    def under_way(self, model: Model, hashes: list[bytes]) -> set[bytes]:
        """Return the texts that an unfinished task is sending or has a vector of."""
        return self._results.under_way(model, hashes)

    def submit(self, task: EmbeddingTask, awaited: set[bytes], owner: Any = None) -> None:
        """Queue a task. ``awaited``: texts of it that another task is sending; ``owner``: kept in the task."""
        task.owner = owner
        queue = self._queue(task.provider, task.model)
        pack_task(task, fitting(task.provider.limits(task.model), task.model.endpoint), queue.answers[task.model.id])
        self._results.add(task, awaited)
        self._tasks.append(task)
        queue.add(task)

    def unavailable(self, provider: Provider, model: Model, budget: Budget | None) -> Permit | None:
        """Return why and how long nothing will be sent to a model, if that is longer than is worth waiting for."""
        permit = self._admission.wait(provider, model, budget)
        return permit if permit.open or permit.wait > self._longest_wait else None

    def limits(self, provider: Provider, model: Model) -> Limits:
        """Return what one request may hold, by the provider's limits and by what was learned of the server."""
        return self._admission.limits(provider, model)

    def has_capacity(self, provider: Provider, model: Model, lane: Lane) -> bool:
        """Return whether more should be prepared for a model: no more waits than can be sent next."""
        queue = self._queue(provider, model)
        return queue.queued_batches(lane) < queue.width

    @property
    def busy(self) -> bool:
        """Whether some task is not done."""
        return bool(self._tasks)

    def poll(self, timeout: float = _SLICE) -> list[EmbeddingTask]:
        """Send what may be sent, wait up to ``timeout`` seconds for answers, and return the tasks that are done."""
        self._send_ready()
        self._await(0.0 if self._has_sql() else min(timeout, _SLICE))
        self._send_ready()
        self._on_tick()
        done = [task for task in self._tasks if task.done]
        self._tasks = [task for task in self._tasks if not task.done]
        for task in done:
            self._results.remove(task)
        return done

    def stop_sending(self) -> None:
        """Send nothing more; requests in flight go on. Texts that were not sent have no result."""
        self._stopped = True
        for queue in self._queues.values():
            for task in queue.tasks():
                self._results.abort(queue, task, None)

    def take_names(self) -> dict[int, str]:
        """Return what servers called their models, by id, since the last call."""
        taken, self._names = self._names, {}
        return taken

    def give_up(self, model: Model) -> None:
        """Send nothing more of the rows' texts for a model's revision; requests in flight go on."""
        for queue in self._queues.values():
            for task in queue.tasks():
                if (task.model.id, task.model.revision) == (model.id, model.revision) and task.retries:
                    self._results.abort(queue, task, None)

    def cancel_all(self) -> list[EmbeddingTask]:
        """Cancel all requests, and return the unfinished tasks with the vectors that came for them."""
        self.stop_sending()
        self.close()
        left, self._tasks = self._tasks, []
        self._results.clear()
        return left

    def close(self) -> None:
        """Cancel all requests; a canceled probe does not keep other sessions waiting."""
        for queue in self._queues.values():
            lost = [*queue.in_flight.values()]
            queue.close()
            queue.in_flight.clear()
            for sent in lost:
                self._admission.report_lost(sent)

    def _queue(self, provider: Provider, model: Model) -> EndpointQueue:
        endpoint = model.endpoint
        name = f"endpoint {endpoint.name}" if endpoint is not None else f"model {model.id}"
        queue = self._queues.setdefault(name, EndpointQueue(1, is_sql=provider.sql))
        queue.width = provider.limits(model).in_flight  # as the endpoint's options are now
        return queue

    def _has_sql(self) -> bool:
        """Return whether a request runs in this thread, so that there is nothing to wait for."""
        return any(queue.is_sql and queue.tasks() for queue in self._queues.values())

    def _send_ready(self) -> None:
        for queue in self._queues.values():
            while len(queue.in_flight) < queue.width and queue.blocked_until <= time.monotonic():
                if not self._send_next(queue) or queue.is_sql:
                    break  # a request that runs SQL is over now: the caller looks at its time before the next one

    def _send_next(self, queue: EndpointQueue) -> bool:
        """Send or give up the next request of a queue; return False if there is none, or none may go yet."""
        waits: list[float] = []
        for lane in queue.lanes():
            task, estimates, permit = self._next(queue, lane)
            if task is None:
                continue
            if permit.rejected is not None:
                self._refuse(queue, task, permit.rejected)
                return True
            if permit.granted:
                self._send(queue, task, permit, estimates)
                return True
            if permit.scope is not None and (permit.scope != "rest" or task.last_error is None):
                task.last_error = _circuit_open(permit, permit.reason)  # else the answer that it rests for says more
            if permit.open or permit.wait > self._longest_wait:
                task.pause = min(permit.wait, _LONGEST_PAUSE)
                self._results.abort(
                    queue, task, _circuit_open(permit, str(task.last_error or permit.reason)) if permit.open else None
                )
                return True
            waits.append(permit.wait)
        if waits:
            queue.blocked_until = time.monotonic() + min([*waits, _LOOK])
        return False

    def _next(self, queue: EndpointQueue, lane: Lane) -> tuple[EmbeddingTask | None, list[int], Permit]:
        """Ask for a permit for the next task of a lane; a task that alone has to wait lets the others pass."""
        while (task := queue.next(lane)) is not None:
            estimates = _estimates(task)
            task.size_on_trial = queue.tries_size(task.model)
            permit = self._admission.acquire(task, estimates)
            if not permit.deferred:
                return task, estimates, permit
            task.deferred_until = time.monotonic() + permit.wait
        return None, [], Permit()

    def _send(self, queue: EndpointQueue, task: EmbeddingTask, permit: Permit, estimates: list[int]) -> None:
        if permit.probe and permit.model_failures and not task.waiting[0].canary:
            task.waiting.appendleft(RequestBatch([], canary=True))  # a text might be refused for reasons of its own
        batch = task.waiting.popleft()
        count = len(estimates) if permit.texts is None else permit.texts
        if count < len(batch.keys):
            task.waiting.appendleft(replace(batch, keys=batch.keys[count:]))
            batch = replace(batch, keys=batch.keys[:count])
        texts = [_CANARY] if batch.canary else [task.texts[key] for key in batch.keys]
        request = Request(texts, task.kind, truncate=task.truncate, is_look=task.is_look)
        sent = InFlightRequest(task, batch, permit, request, sum(estimates[:count]))
        if fault_isolation.has_early_deadline(batch):
            sent.early_deadline = time.monotonic() + capacity.expected_timeout(permit.capacity, count, permit.ahead)
        queue.note_sent(task, sent.estimated)
        task.in_flight += 1
        if task.provider.sql:
            self._on_response(queue, sent, self._call(sent))
            self._on_tick()
        else:
            queue.start(sent)

    def _call(self, sent: InFlightRequest) -> Answer | ModelError:
        try:
            return self._step("embed", lambda: sent.task.provider.embed(sent.task.model, sent.request))
        except ModelError as error:
            return error

    def _refuse(self, queue: EndpointQueue, task: EmbeddingTask, error: ModelError) -> None:
        """Fail the next text of a task, which may never be sent; the others may."""
        key = task.waiting[0].keys.pop(0)
        if not task.waiting[0].keys:
            task.waiting.popleft()
        self._results.record(task, key, error)
        queue.remove(task)
        queue.add(task)

    @property
    def has_in_flight(self) -> bool:
        """Whether a request is under way."""
        return any(queue.in_flight for queue in self._queues.values())

    def _await(self, timeout: float) -> None:
        """Wait for an answer, or until a queue may send again."""
        queues = [*self._queues.values()]
        in_flight: list[Future[Answer]] = [future for queue in queues for future in queue.in_flight]
        now = time.monotonic()
        blocked = [queue.ready_in(now) for queue in queues if queue.tasks()]
        timeout = max(0.0, min([timeout, *(wait for wait in blocked if wait > 0)]))
        if in_flight:
            wait(in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
        elif any(wait > 0 for wait in blocked):
            time.sleep(timeout)  # for a permit that only time gives
        for queue in queues:
            for future in [future for future in queue.in_flight if future.done()]:
                self._on_response(queue, queue.in_flight.pop(future), answer(future))
            for sent in queue.overdue():
                lost = RetryableError(f"model {sent.task.model.name} does not answer")
                self._on_response(queue, sent, doubtful(lost, slow=True))

    def _on_response(self, queue: EndpointQueue, sent: InFlightRequest, result: Answer | ModelError) -> None:
        """Record a result, and queue what it asks for."""
        task = sent.task
        task.in_flight -= 1
        if sent.canceled_early and isinstance(result, ModelError):
            result = fault_isolation.early_timeout(sent)
        task.last_error = result if isinstance(result, ModelError) and result.scope == "service" else None
        if isinstance(result, Answer) and result.served_as is not None:
            task.served_as = self._names[task.model.id] = result.served_as
        sent.others_work = queue.others_work(task.model)
        found = classify(sent, result, queue.answers[task.model.id])
        queue.note_answer(task.model, works=found.works)
        self._admission.report(sent, found)
        if sent.permit.booked is not None:
            queue.blocked_until = 0.0  # there is room again
        for key, vector in found.vectors.items():
            self._results.record(task, key, vector)
        for key, error in found.failures.items():
            self._results.record(task, key, error)
        task.waiting.extendleft(reversed(found.retry))
        task.unresolved.extend(found.unresolved)
        if task.isolating_since or task.unresolved or (isinstance(result, ModelError) and result.doubtful):
            fault_isolation.note_time(task)
        queue.add(task)
        if found.fatal is not None or self._stopped:
            self._results.abort(queue, task, found.fatal)
        self._isolate_faults(queue, task.model, found.fatal if sent.batch.canary else None)

    def _isolate_faults(self, queue: EndpointQueue, model: Model, down: ModelError | None) -> None:
        """Bisect the batches that failed as a whole; ``down``: not even a canary was answered."""
        for task in [o for o in self._tasks if o.model.id == model.id and (o.unresolved or o.isolating_since)]:
            if down is not None:
                self._results.abort(queue, task, down)
                continue
            for key, error in fault_isolation.resolve(task, queue).items():
                self._results.record(task, key, error)
            if task.isolating_since and fault_isolation.takes_long(task):
                self._results.abort_isolation(task)
            elif fault_isolation.needs_canary(task) and not queue.has_canary(model):
                task.waiting.appendleft(RequestBatch([], canary=True))
            queue.remove(task)
            queue.add(task)


def _circuit_open(permit: Permit, why: str) -> CircuitOpenError:
    return CircuitOpenError(why, permit.wait, permit.scope or "rest")


def _estimates(task: EmbeddingTask) -> list[int]:
    batch = task.waiting[0]
    if batch.canary:
        return [text.estimate_tokens(_CANARY)]
    return [text.estimate_tokens(task.texts[key]) for key in batch.keys]


def embed_once(task: EmbeddingTask, on_tick: Callable[[], None]) -> TaskResult:
    """Run a single task for a caller that waits; raises no ModelError: failures are in the result."""
    dispatcher = RequestDispatcher(Unlimited(), run_directly, on_tick, longest_wait=0.0)
    try:
        dispatcher.submit(task, set())
        while dispatcher.busy:
            dispatcher.poll()
    finally:
        dispatcher.close()
    return task.result
