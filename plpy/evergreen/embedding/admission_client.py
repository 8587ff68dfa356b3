"""Asks admission control for permits and reports answers to it, each in a step of the caller's."""

from dataclasses import replace

from evergreen.core.embedding import Budget, EmbeddingTask, Limits, Provider
from evergreen.core.errors import RejectedError, RetryableError
from evergreen.core.pipeline import Model
from evergreen.core.step import Step
from evergreen.embedding.endpoint_queue import InFlightRequest
from evergreen.embedding.limits import capacity
from evergreen.embedding.limits.admission import UNKNOWN, AdmissionControl, Permit
from evergreen.embedding.limits.capacity import Capacity
from evergreen.embedding.response import NextStep

_ASK_AGAIN_S = 1.0  # while another session has the shared state locked
_LOCKED_SCOPE = "row"  # the message of a locked shared state holds until the rows are tried again


class AdmissionClient:
    """Turns a locked shared state into a short wait, and remembers what each model's server can take."""

    def __init__(self, admission: AdmissionControl, step: Step) -> None:
        self._admission = admission
        self._step = step
        self._capacity: dict[int, Capacity] = {}  # by model, as last read

    def wait(self, provider: Provider, model: Model, budget: Budget | None) -> Permit:
        """Return whether and how long a model's requests have to wait, without asking to send one."""
        if provider.free:
            return Permit()
        try:
            permit = self._step("permit", lambda: self._admission.wait(model, budget))
        except RetryableError as error:
            permit = Permit(_ASK_AGAIN_S, open=True, reason=str(error))
        self._capacity[model.id] = permit.capacity
        return permit

    def limits(self, provider: Provider, model: Model) -> Limits:
        """Return what a request may hold, by the provider's limits and by what was learned of the server."""
        limits = provider.limits(model)
        largest = capacity.largest(self._capacity.get(model.id, UNKNOWN), limits, model.answer_timeout)
        return replace(limits, inputs=largest)

    def acquire(self, task: EmbeddingTask, estimates: list[int]) -> Permit:
        """Ask to send the next batch of a task, whose texts have about so many tokens each."""
        if task.provider.free:
            return Permit()
        try:
            return self._step("permit", lambda: self._admission.acquire(task, estimates))
        except RejectedError as error:
            return Permit(rejected=error)
        except RetryableError as error:
            return Permit(_ASK_AGAIN_S, open=True, reason=str(error), scope=_LOCKED_SCOPE)

    def report(self, sent: InFlightRequest, found: NextStep) -> None:
        """Report what became of a request; where the shared state is locked, others go without that advice."""
        if sent.task.provider.free:
            return

        def note() -> None:
            found.note(self._admission)
            seconds = sent.ended - sent.began if found.works and sent.ended else None
            self._admission.completed(sent.task, sent.permit, len(sent.request.texts), seconds)
            if found.too_large is not None:
                self._admission.too_large(sent.task, found.too_large.size, found.too_large.good)

        try:
            self._step("report", note)
        except RetryableError:
            return

    def report_lost(self, sent: InFlightRequest) -> None:
        """Report a request whose answer will not be read: a probe must not keep other sessions waiting."""

        def note(admission: AdmissionControl) -> None:
            if sent.permit.probe:
                admission.failed(sent.task, sent.permit, sent.estimated, None)

        if sent.permit.probe or sent.permit.booked:
            self.report(sent, NextStep(note))
