"""The weather at the model's server: random delays and faults, and an account of what was answered well."""

import random
import re
import threading
from collections import Counter

from tests.fixtures.providers.faults import (
    Fault,
    Reply,
    backwards,
    count,
    html,
    in_base64,
    noise,
    reset,
    status,
    truncated,
)
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.scenarios.chaos.histories import POISONS

HARMLESS: dict[str, Fault] = {"backwards": backwards(), "base64": in_base64()}
FAULTS: dict[str, Fault] = {
    "500": status(500),
    "503": status(503, retry_after="1"),
    "429": status(429, retry_after="1"),
    "400": status(400),
    "401": status(401),
    "login page": html(),
    "half an answer": truncated(),
    "too few vectors": count(-1),
    "too many vectors": count(1),
    "reset": reset(),
    "reset in the body": reset(after=20),
    "no HTTP": noise(),
}
#: What a request ends with that has a poison text in it, by the number of the poison.
POISONED: tuple[Fault, ...] = (status(500), status(424), status(503), reset(), truncated(), status(400))
assert len(POISONED) == POISONS
_POISON = re.compile(r"poison (\d+)")
_KEPT_CALLS = 500


class Weather:
    """What happens to the requests of a provider until ``clear_up()``.

    Each poison fails every request that it is in. ``sent`` and ``answered`` leave the poisons out. An answer that came
    too late is none: a drain hangs up before the statement_timeout, to have time to write what came.
    """

    def __init__(self, provider: LoopbackProvider, seed: str, *, share: float, longest: float = 2.0) -> None:
        self.injected: Counter[str] = Counter()
        self.sent: Counter[tuple[str, str]] = Counter()  # (model, text)
        self.answered: Counter[tuple[str, str]] = Counter()  # and well
        self._chance = random.Random(f"{seed} weather")
        self._share, self._longest = share, longest
        self._guard = threading.Lock()
        self._provider = provider
        self._is_poisonous = True
        provider.fail(self._happen)

    def clear_up(self) -> None:
        """From now on all is well, and at once."""
        self._share = self._longest = 0.0
        self._is_poisonous = False

    @property
    def minimum(self) -> int:
        """How many texts had to be sent: each once to each model."""
        return len(self.sent)

    @property
    def again(self) -> int:
        """How many were sent although their answer had gone out before."""
        return self.answered.total() - len(self.answered)

    def _happen(self, reply: Reply) -> None:
        with self._guard:
            dice, delay = self._chance.random(), self._chance.random() ** 8 * self._longest
            kind = self._chance.choice([*FAULTS, *HARMLESS]) if dice < self._share else None
            poisons = [int(found[1]) for text in reply.call.texts if (found := _POISON.search(text))]
            texts = [text for text in reply.call.texts if text != "evergreen" and not _POISON.search(text)]
            pairs = [(reply.call.body["model"], text) for text in texts]
            self.sent.update(pairs)
            poison = poisons[0] if poisons and self._is_poisonous else None
            if poison is not None:
                self.injected[f"poison {poison}"] += 1
            if kind is not None and poison is None:
                self.injected[kind] += 1
            if len(self._provider.calls) > _KEPT_CALLS:
                self._provider.reset()
        self._provider.stopped.wait(delay)
        if poison is None and kind not in FAULTS and reply.call.is_awaited():
            with self._guard:
                self.answered.update(pairs)
        if poison is not None:
            POISONED[poison](reply)
        elif kind is not None:
            (FAULTS | HARMLESS)[kind](reply)
