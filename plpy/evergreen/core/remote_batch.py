"""A batch of texts at a provider's batch API, as a worker takes it for a step."""

from evergreen.core.frozen import frozen

STATES = ("preparing", "submitted", "running", "collecting", "done", "failed", "expired", "cancelled")


@frozen
class BatchOfTexts:
    """A batch that this session owns by its token.

    ``was_asked``: its creation was requested, so the provider may have it; ``is_given_up``: its rows no longer wait
    for it; ``remote_state``: the provider's last word, None before; ``seconds``: since it was submitted.
    """

    id: int
    intent: str
    pipeline: int
    model: int
    revision: int
    epoch: int
    state: str
    token: int
    attempts: int
    was_asked: bool
    is_given_up: bool
    remote_id: str | None
    remote_state: str | None
    files: tuple[str, ...]
    outputs: tuple[str, ...]
    counts: tuple[int | None, int | None]  # succeeded and failed, as the provider says
    is_collected: bool
    texts: int
    tokens: int
    reserved: int
    is_old: bool
    seconds: float

    @property
    def lock(self) -> int:
        """The number of the advisory lock that its owner holds."""
        return self.token & 0x7FFFFFFF

    @property
    def name(self) -> str:
        """What its file is called at the provider."""
        return f"evergreen-{self.intent}"


@frozen
class SpooledText:
    """A text for a batch; ``size``: bytes of its line in the file; ``key``: the row that it is of."""

    hash: bytes
    text: str
    tokens: int
    size: int
    key: str


@frozen
class Awaited:
    """The batch that a row or text waits for, and until when."""

    batch: int
    deadline: str
