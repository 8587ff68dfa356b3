"""Embeds claims one after the other: a text that fails is found by halving, and its rows alone lose an attempt."""

import importlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from evergreen_host.compute.client import ClaimedText, QueueClient

_IDLE_DELAY = 0.5  # seconds between two looks at a queue that is empty
# The queue is empty after so many claims: a row is put back for a moment while its text is embedded elsewhere.
_EMPTY_CLAIMS = 4
_MAX_FAILURES = 5  # in a row, then the process ends with the error
_PROBE_TEXT = "evergreen"


class Embedded(NamedTuple):
    """What a function may return instead of vectors alone: with the tokens that were billed."""

    vectors: Sequence[Any]
    tokens: int | None = None


#: From texts to one vector each, in order: lists, tuples, or rows of an array.
Embed = Callable[[list[str]], Any]
#: From the name of a model to its function.
Factory = Callable[[str], Embed]


@dataclass(frozen=True)
class Settings:
    """What an embedder is told. ``embed``: module:factory, where factory(model) returns an Embed."""

    dsn: str
    pipeline: str
    embed: str
    batch: int = 256
    lease: str = "5 min"
    model: str | None = None
    until_empty: bool = False


def load(name: str) -> Factory:
    """Return the factory that ``module:factory`` names; raises LookupError."""
    module_name, _, attribute = name.partition(":")
    try:
        found: object = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"{name} is not module:factory of something that can be imported here: {error}") from error
    return cast("Factory", found)


class ModelFailedError(Exception):
    """No text passes, not even a harmless one."""


class Embedder:
    """One process of compute: claims ahead while it embeds, so that the model never waits for the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, Embed] = {}
        self._queue = QueueClient(settings.dsn, settings.pipeline, settings.lease, settings.model)

    def run(self) -> int:
        """Embed until the queue is empty, or for ever; return how many texts. Raises FailedError, LookupError."""
        factory = load(self._settings.embed)
        done = empty = failed = 0
        with ThreadPoolExecutor(1) as pool:
            next_claim = pool.submit(self._claim)
            while empty < _EMPTY_CLAIMS or not self._settings.until_empty:
                texts = next_claim.result()
                empty = 0 if texts else empty + 1
                if not texts:
                    time.sleep(_IDLE_DELAY)  # the queue is empty: the next look is a claim, and those are not free
                next_claim = pool.submit(self._claim)
                try:
                    done += self._embed(texts, factory) if texts else 0
                    failed = 0 if texts else failed
                except ModelFailedError:
                    self._release([*texts, *next_claim.result()])
                    failed += 1
                    if failed == _MAX_FAILURES:
                        raise
                    time.sleep(2.0**failed)  # the model takes nothing: each time it is left alone for longer
                    next_claim = pool.submit(self._claim)
            self._release(next_claim.result())
        return done

    def _claim(self) -> list[ClaimedText]:
        return self._queue.claim(self._settings.batch)

    def _release(self, texts: list[ClaimedText]) -> None:
        by_token: dict[int, list[ClaimedText]] = {}
        for one in texts:
            by_token.setdefault(one.token, []).append(one)
        for claimed in by_token.values():
            self._queue.release(claimed)

    def _embed(self, texts: list[ClaimedText], factory: Factory) -> int:
        """Embed and submit; halve what fails until the text that is to blame is alone."""
        try:
            embedded = self._call_model([one.text for one in texts], texts[0].model, factory)
            vectors = [format_vector(vector) for vector in embedded.vectors]
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            if len(texts) == 1:
                self._fail_text(texts[0], error, factory)
                return 0
            middle = len(texts) // 2
            return self._embed(texts[:middle], factory) + self._embed(texts[middle:], factory)
        self._queue.submit(texts, vectors, embedded.tokens)
        return len(texts)

    def _fail_text(self, text: ClaimedText, error: Exception, factory: Factory) -> None:
        """Fail a text's rows if a harmless one passes: else it is not to blame."""
        message = f"{type(error).__name__}: {error}"
        try:
            format_vector(self._call_model([_PROBE_TEXT], text.model, factory).vectors[0])
        except Exception:  # noqa: BLE001 - as above
            raise ModelFailedError(message) from error
        self._queue.release([text], message)

    def _call_model(self, texts: list[str], model: str, factory: Factory) -> Embedded:
        if model not in self._models:
            self._models[model] = factory(model)
        answer: Any = self._models[model](texts)
        embedded = answer if isinstance(answer, Embedded) else Embedded(answer)
        if len(embedded.vectors) != len(texts):
            raise ValueError(f"{len(texts)} texts gave {len(embedded.vectors)} vectors")
        return embedded


def format_vector(vector: Any) -> str:
    """Return pgvector's text for a list, a tuple or a row of an array; raises ValueError for one that is no answer."""
    values: Any = vector.tolist() if hasattr(vector, "tolist") else vector
    numbers = [float(number) for number in values]
    if not 0.0 < sum(number * number for number in numbers) < math.inf:
        raise ValueError("a vector is all zeros, or has NaN or infinity in it")
    return "[" + ",".join(map(repr, numbers)) + "]"
