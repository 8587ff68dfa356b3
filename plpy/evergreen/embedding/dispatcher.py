"""Takes orders to their models: many orders and requests at once, in the caller's thread but for the waiting."""

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

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
    Vector,
)
from evergreen.core.errors import CircuitOpenError, ModelError, RejectedError, RetryableError, doubtful
from evergreen.core.pipeline import Model
from evergreen.embedding import doubt
from evergreen.embedding.batching import fitting, pack_task
from evergreen.embedding.endpoint_queue import EndpointQueue, InFlightRequest, answer
from evergreen.embedding.limits import capacity
from evergreen.embedding.limits.admission import UNKNOWN, AdmissionControl, Permit, Unlimited
from evergreen.embedding.limits.capacity import Capacity
from evergreen.embedding.response import NextStep, classify

_SLICE = 0.1  # seconds between two looks at cancel, statement_timeout and the snapshot
_CANARY = "evergreen"
_AGAIN = 1.0
_LOOK = 1.0  # seconds after which leave is asked for again: limits may have been changed
_SHARED_STATE = "row"  # somebody sits on it: that holds until the rows are tried again
_LONGEST_PAUSE = 30.0  # seconds for which rows are put back that wait for their turn


class Step(Protocol):
    """Runs something that needs SQL: a drain at once, a worker in a transaction of its own."""

    def __call__(self, body: Callable[[], Any], /) -> Any:
        """Run body and return what it returns."""
        ...


class RequestDispatcher:
    """Carries orders. All methods are for the main thread; only the requests themselves fly in others."""

    def __init__(
        self, traffic: AdmissionControl, step: Step, breathe: Callable[[], None], *, longest_wait: float
    ) -> None:
        """``breathe`` is called at least every 100 ms; ``longest_wait``: seconds to wait for leave before giving up."""
        self._traffic = traffic
        self._step = step
        self._breathe = breathe
        self._longest_wait = longest_wait
        self._recalled = False
        self._lines: dict[str, EndpointQueue] = {}
        self._capacity: dict[int, Capacity] = {}  # of each model's server, as last heard
        self._orders: list[EmbeddingTask] = []
        self._senders: dict[tuple[int, bytes], EmbeddingTask] = {}
        self._followers: defaultdict[tuple[int, bytes], list[EmbeddingTask]] = defaultdict(list)

    def under_way(self, model: Model, hashes: list[bytes]) -> set[bytes]:
        """Return which texts an order that is not done is sending, or has the vector of."""
        senders = ((key, self._senders.get((model.id, key))) for key in hashes)
        return {
            key for key, one in senders if one is not None and key not in one.unsent and key not in one.outcome.failures
        }

    def take(self, order: EmbeddingTask, follow: set[bytes], sender: Any = None) -> None:
        """Take an order. ``follow``: further texts of it, which another order is sending; ``sender``: whose it is."""
        order.sender = sender
        line = self._line(order.provider, order.model)
        pack_task(
            order, fitting(order.provider.limits(order.model), order.model.endpoint), line.answers[order.model.id]
        )
        for key in order.texts:
            self._senders[order.model.id, key] = order
        for key in follow:
            self._follow(order, key, self._senders[order.model.id, key].outcome.vectors)
        self._orders.append(order)
        line.add(order)

    def rests(self, provider: Provider, model: Model, budget: Budget | None) -> Permit | None:
        """Tell why and how long nothing will be sent to a model, if that is longer than is worth waiting for."""
        if provider.free:
            return None
        try:
            leave: Permit = self._step(lambda: self._traffic.wait(model, budget))
        except RetryableError as error:
            leave = Permit(_AGAIN, open=True, reason=str(error))
        self._capacity[model.id] = leave.capacity
        return leave if leave.open or leave.wait > self._longest_wait else None

    def limits(self, provider: Provider, model: Model) -> Limits:
        """Return what one request may hold, by the provider's limits and by what was learned of the server."""
        limits = provider.limits(model)
        largest = capacity.largest(self._capacity.get(model.id, UNKNOWN), limits, model.answer_timeout)
        return replace(limits, inputs=largest)

    def has_room(self, provider: Provider, model: Model, lane: int) -> bool:
        """Tell whether more should be prepared for a model: as much waits as can fly next, and no more."""
        line = self._line(provider, model)
        return line.parcels(lane) < line.width

    @property
    def busy(self) -> bool:
        """True while some order is not done."""
        return bool(self._orders)

    def turn(self, patience: float = _SLICE) -> list[EmbeddingTask]:
        """Send what may be sent, wait a little for answers, and return the orders that are done."""
        self._launch()
        self._await(0.0 if self._has_sql() else min(patience, _SLICE))
        self._launch()
        self._breathe()
        done = [order for order in self._orders if order.done]
        self._orders = [order for order in self._orders if not order.done]
        for order in done:
            for key in order.texts:
                self._senders.pop((order.model.id, key), None)
        return done

    def recall(self) -> None:
        """Send nothing more; what is under way comes to its end. Texts that were not sent have no outcome."""
        self._recalled = True
        for line in self._lines.values():
            for order in line.orders():
                self._drop(line, order, None)

    def break_off(self) -> list[EmbeddingTask]:
        """Cut what is under way, and return every order that was not done, with the vectors that came for it."""
        self.recall()
        self.close()
        left, self._orders = self._orders, []
        self._senders.clear()
        return left

    def close(self) -> None:
        """Give everything up at once; a probe that nobody will hear of keeps nobody else away."""
        for line in self._lines.values():
            lost = [flight for flight in line.flights.values() if flight.leave.probe or flight.leave.booked]
            line.close()
            line.flights.clear()
            for flight in lost:
                self._note(flight.order, NextStep(partial(_lost, flight)), flight)

    def _line(self, provider: Provider, model: Model) -> EndpointQueue:
        endpoint = model.endpoint
        name = f"endpoint {endpoint.name}" if endpoint is not None else f"model {model.id}"
        line = self._lines.setdefault(name, EndpointQueue(1, is_sql=provider.sql))
        line.width = provider.limits(model).in_flight  # as the endpoint's options are now
        return line

    def _has_sql(self) -> bool:
        """True when there is a request that runs here and now: nothing is to be waited for."""
        return any(line.is_sql and line.orders() for line in self._lines.values())

    def _launch(self) -> None:
        for line in self._lines.values():
            while len(line.flights) < line.width and line.blocked_until <= time.monotonic():
                if not self._launch_one(line) or line.is_sql:
                    break  # a request that runs SQL is over now: the caller looks at its time before the next one

    def _launch_one(self, line: EndpointQueue) -> bool:
        """Send or give up the next request of a line; False when there is none, or none may go yet."""
        waits: list[float] = []
        for lane in line.lanes():
            order, estimates, leave = self._next(line, lane)
            if order is None:
                continue
            if leave.never is not None:
                self._refuse(line, order, leave.never)
                return True
            if leave.granted:
                self._send(line, order, leave, estimates)
                return True
            if leave.scope is not None and (leave.scope != "rest" or order.trouble is None):
                order.trouble = _resting(leave, leave.reason)  # else the answer that it rests for says more
            if leave.open or leave.wait > self._longest_wait:
                order.pause = min(leave.wait, _LONGEST_PAUSE)
                self._drop(line, order, _resting(leave, str(order.trouble or leave.reason)) if leave.open else None)
                return True
            waits.append(leave.wait)
        if waits:
            line.blocked_until = time.monotonic() + min([*waits, _LOOK])
        return False

    def _next(self, line: EndpointQueue, lane: int) -> tuple[EmbeddingTask | None, list[int], Permit]:
        """Ask leave for the next order of a lane; one that has to wait for itself alone lets the others pass."""
        while (order := line.next(lane)) is not None:
            estimates = _estimates(order)
            order.cautious = line.tries_size(order.model)
            leave = self._ask(order, estimates)
            if not leave.aside:
                return order, estimates, leave
            order.aside_until = time.monotonic() + leave.wait
        return None, [], Permit()

    def _ask(self, order: EmbeddingTask, estimates: list[int]) -> Permit:
        if order.provider.free:
            return Permit()
        try:
            return self._step(lambda: self._traffic.ask(order, estimates))
        except RejectedError as error:
            return Permit(never=error)
        except RetryableError as error:
            return Permit(_AGAIN, open=True, reason=str(error), scope=_SHARED_STATE)

    def _send(self, line: EndpointQueue, order: EmbeddingTask, leave: Permit, estimates: list[int]) -> None:
        if leave.probe and leave.model_failures and not order.waiting[0].canary:
            order.waiting.appendleft(RequestBatch([], canary=True))  # a text might be refused for reasons of its own
        parcel = order.waiting.popleft()
        count = len(estimates) if leave.texts is None else leave.texts
        if count < len(parcel.keys):
            order.waiting.appendleft(replace(parcel, keys=parcel.keys[count:]))
            parcel = replace(parcel, keys=parcel.keys[:count])
        texts = [_CANARY] if parcel.canary else [order.texts[key] for key in parcel.keys]
        request = Request(texts, order.kind, truncate=order.truncate)
        flight = InFlightRequest(order, parcel, leave, request, sum(estimates[:count]))
        if doubt.is_hurried(parcel):
            flight.hurry_at = time.monotonic() + capacity.patience(leave.capacity, count, leave.ahead)
        line.sent(order, flight.estimated)
        order.flying += 1
        if order.provider.sql:
            self._land(line, flight, self._call(flight))
            self._breathe()
        else:
            line.fly(flight)

    def _call(self, flight: InFlightRequest) -> Answer | ModelError:
        try:
            return self._step(lambda: flight.order.provider.embed(flight.order.model, flight.request))
        except ModelError as error:
            return error

    def _note(self, order: EmbeddingTask, found: NextStep, flight: InFlightRequest) -> None:
        if order.provider.free:
            return

        def note() -> None:
            found.note(self._traffic)
            seconds = flight.ended - flight.began if found.works and flight.ended else None
            self._traffic.landed(order, flight.leave, len(flight.request.texts), seconds)
            if found.too_large is not None:
                self._traffic.too_large(order, found.too_large.size, found.too_large.good)

        try:
            self._step(note)
        except RetryableError:
            return  # somebody sits on the shared state: what would be noted is only advice to others

    def _refuse(self, line: EndpointQueue, order: EmbeddingTask, error: ModelError) -> None:
        """The next text of an order may never be sent; the others may."""
        key = order.waiting[0].keys.pop(0)
        if not order.waiting[0].keys:
            order.waiting.popleft()
        self._settle(order, key, error)
        line.remove(order)
        line.add(order)

    @property
    def flying(self) -> bool:
        """True while a request is under way."""
        return any(line.flights for line in self._lines.values())

    def _await(self, patience: float) -> None:
        """Wait for an answer, or until a line may send again."""
        lines = [*self._lines.values()]
        flying: list[Future[Answer]] = [future for line in lines for future in line.flights]
        now = time.monotonic()
        blocked = [line.opens_in(now) for line in lines if line.orders()]
        patience = max(0.0, min([patience, *(wait for wait in blocked if wait > 0)]))
        if flying:
            wait(flying, timeout=patience, return_when=FIRST_COMPLETED)
        elif any(wait > 0 for wait in blocked):
            time.sleep(patience)  # for leave that only time gives
        for line in lines:
            for future in [future for future in line.flights if future.done()]:
                self._land(line, line.flights.pop(future), answer(future))
            for flight in line.overdue():
                lost = RetryableError(f"model {flight.order.model.name} does not answer")
                self._land(line, flight, doubtful(lost, slow=True))

    def _land(self, line: EndpointQueue, flight: InFlightRequest, result: Answer | ModelError) -> None:
        """Take a result in, and do what it asks for."""
        order = flight.order
        order.flying -= 1
        if flight.hurried and isinstance(result, ModelError):
            result = doubt.hurried(flight)
        order.trouble = result if isinstance(result, ModelError) and result.scope == "service" else None
        flight.others_work = line.others_work(order.model)
        found = classify(flight, result, line.answers[order.model.id])
        line.note_answer(order.model, works=found.works)
        self._note(order, found, flight)
        if flight.leave.booked is not None:
            line.blocked_until = 0.0  # there is room again
        for key, vector in found.vectors.items():
            self._settle(order, key, vector)
        for key, error in found.failures.items():
            self._settle(order, key, error)
        order.waiting.extendleft(reversed(found.again))
        order.doubts.extend(found.doubts)
        if order.doubted_at or order.doubts or (isinstance(result, ModelError) and result.doubtful):
            doubt.note_time(order)
        line.add(order)
        if found.fatal is not None or self._recalled:
            self._drop(line, order, found.fatal)
        self._look_into_doubts(line, order.model, found.fatal if flight.parcel.canary else None)

    def _look_into_doubts(self, line: EndpointQueue, model: Model, down: ModelError | None) -> None:
        """Go on with the orders of which some parcel failed; ``down``: not even a harmless text was answered."""
        for order in [o for o in self._orders if o.model.id == model.id and (o.doubts or o.doubted_at)]:
            if down is not None:
                self._drop(line, order, down)
                continue
            for key, error in doubt.settle(order, line).items():
                self._settle(order, key, error)
            if order.doubted_at and doubt.takes_long(order):
                self._drop_doubtful(order)
            elif doubt.needs_canary(order) and not line.has_canary(model):
                order.waiting.appendleft(RequestBatch([], canary=True))
            line.remove(order)
            line.add(order)

    def _drop_doubtful(self, order: EmbeddingTask) -> None:
        """Give up what is taken apart, so that the rest of the batch can be written; it goes on from there later."""
        for parcel in [*order.waiting]:
            if parcel.error is not None or parcel.canary:
                order.waiting.remove(parcel)
                self._give_up(order, parcel, None)
        self._drop_doubts(order, None)

    def _drop_doubts(self, order: EmbeddingTask, error: ModelError | None) -> None:
        for one in order.doubts:
            self._give_up(order, one.parcel, error)
        order.doubts.clear()

    def _give_up(self, order: EmbeddingTask, parcel: RequestBatch, error: ModelError | None) -> None:
        for key in parcel.keys:
            self._settle(order, key, doubt.left(parcel, error, tried=parcel.tries > 0))

    def _follow(self, order: EmbeddingTask, key: bytes, vectors: dict[bytes, Vector]) -> None:
        if key in vectors:
            order.outcome.vectors[key] = vectors[key]
        else:
            order.followed.add(key)
            self._followers[order.model.id, key].append(order)

    def _settle(self, order: EmbeddingTask, key: bytes, result: Vector | ModelError | None) -> None:
        """Record what became of a text. Those that follow it share a vector; else they try by their own rules."""
        followers = self._followers.pop((order.model.id, key), [])
        for one in followers:
            one.followed.discard(key)
        if isinstance(result, ModelError):
            order.outcome.failures[key] = result
        for one in [order, *followers]:
            if result is None or (one is not order and isinstance(result, ModelError)):
                one.unsent.add(key)
            elif not isinstance(result, ModelError):
                one.outcome.vectors[key] = result

    def _drop(self, line: EndpointQueue, order: EmbeddingTask, error: ModelError | None) -> None:
        """Give up what an order has not sent."""
        for key in order.accused:
            self._settle(order, key, error)
        for parcel in order.waiting:
            self._give_up(order, parcel, error)
        self._drop_doubts(order, error)
        order.accused.clear()
        order.waiting.clear()
        line.remove(order)


def _resting(leave: Permit, why: str) -> CircuitOpenError:
    return CircuitOpenError(why, leave.wait, leave.scope or "rest")


def _lost(flight: InFlightRequest, traffic: AdmissionControl) -> None:
    if flight.leave.probe:
        traffic.failed(flight.order, flight.leave, flight.estimated, None)


def _estimates(order: EmbeddingTask) -> list[int]:
    parcel = order.waiting[0]
    if parcel.canary:
        return [text.estimate_tokens(_CANARY)]
    return [text.estimate_tokens(order.texts[key]) for key in parcel.keys]


def embed_once(order: EmbeddingTask, breathe: Callable[[], None]) -> TaskResult:
    """Carry a single order for which somebody waits."""
    courier = RequestDispatcher(Unlimited(), lambda body: body(), breathe, longest_wait=0.0)
    try:
        courier.take(order, set())
        while courier.busy:
            courier.turn()
    finally:
        courier.close()
    return order.outcome
