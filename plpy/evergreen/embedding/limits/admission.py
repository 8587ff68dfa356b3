"""Admission control: permits requests and is told how they ended."""

from typing import Protocol

from evergreen.core.embedding import Budget, EmbeddingTask
from evergreen.core.errors import ModelError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model
from evergreen.embedding.limits.capacity import Capacity

UNKNOWN = Capacity()


@frozen
class Permit:
    """May a request go: now, or in ``wait`` seconds, and then with how many of its texts."""

    wait: float = 0.0
    open: bool = False  # a breaker is open or a budget is spent: release the claim and retry later
    reason: str = ""
    scope: str | None = None  # of the reason, as embed.job.error_scope; None: waiting for one's turn is no error
    deferred: bool = False  # only this task has to wait; others of its queue may go
    rejected: ModelError | None = None  # why the first text may not be sent at all
    texts: int | None = None  # only the first so many; None for all
    probe: bool = False  # to see whether what failed works again
    endpoint_failures: int = 0  # in a row, when it was permitted
    model_failures: int = 0
    capacity: Capacity = UNKNOWN  # of the server, when it was permitted
    ahead: int = 0  # texts under way before this request
    booked: tuple[int, int] | None = None  # work that is counted for it, and in which period

    @property
    def granted(self) -> bool:
        """Whether it may go now."""
        return self.wait == 0.0


class AdmissionControl(Protocol):
    """Permits requests, by what is known of model, endpoint, limits and budget, and is told how they ended."""

    def wait(self, model: Model, spender: Budget | None) -> Permit:
        """Return how long a model's requests rest, without asking for a permit."""
        ...

    def acquire(self, task: EmbeddingTask, estimates: list[int]) -> Permit:
        """Ask for a permit to send texts of about so many tokens each; once granted, the request counts as sent."""
        ...

    def succeeded(self, task: EmbeddingTask, permit: Permit, estimated: int, billed: int | None, pause: float) -> None:
        """Note an answer, what it cost, and the seconds for which the server wants to be left alone."""
        ...

    def failed(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Note that an endpoint did not answer, or wants to be left alone."""
        ...

    def inconclusive(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Note a failure that may be the texts' own fault: it says nothing of the endpoint yet."""
        ...

    def down(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Note that after such a failure not even a harmless text was answered."""
        ...

    def refused(self, task: EmbeddingTask, permit: Permit, estimated: int, *, misconfigured: bool) -> None:
        """Note an answer that is a refusal: of the texts, or because the model cannot work as it is set up."""
        ...

    def completed(self, task: EmbeddingTask, permit: Permit, texts: int, seconds: float | None) -> None:
        """Note that a request is over, and how long its good answer took; None for a failure."""
        ...

    def too_large(self, task: EmbeddingTask, size: int, good: int) -> None:
        """Note that a request of so many texts failed while its parts, of up to ``good``, passed."""
        ...


class Unlimited:
    """No limits: for a single query, perhaps on a standby, where no state can be written."""

    def wait(self, model: Model, spender: Budget | None) -> Permit:
        """It does not rest."""
        return Permit()

    def acquire(self, task: EmbeddingTask, estimates: list[int]) -> Permit:
        """Grant it."""
        return Permit()

    def succeeded(self, task: EmbeddingTask, permit: Permit, estimated: int, billed: int | None, pause: float) -> None:
        """Nothing is kept."""

    def failed(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Nothing is kept."""

    def inconclusive(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Nothing is kept."""

    def down(self, task: EmbeddingTask, permit: Permit, estimated: int, pause: float | None) -> None:
        """Nothing is kept."""

    def refused(self, task: EmbeddingTask, permit: Permit, estimated: int, *, misconfigured: bool) -> None:
        """Nothing is kept."""

    def completed(self, task: EmbeddingTask, permit: Permit, texts: int, seconds: float | None) -> None:
        """Nothing is kept."""

    def too_large(self, task: EmbeddingTask, size: int, good: int) -> None:
        """Nothing is kept."""
