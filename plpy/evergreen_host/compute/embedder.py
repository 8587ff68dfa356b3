"""Embeds claim after claim; a failing batch is bisected, so only the bad text's rows lose an attempt."""

import importlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import psycopg

from evergreen_host.compute.client import ClaimedText, QueueClient

_IDLE_DELAY = 0.5  # seconds between claims on an empty queue
# The queue counts as empty after so many claims: a row is released briefly while its text is in flight elsewhere.
_EMPTY_CLAIMS = 4
_MAX_FAILURES = 5  # in a row, then the process ends with the error
_PROBE_TEXT = "evergreen"
# Of a vector's length: float32's range, with a margin for rounding. The database sums squares in float32.
_LEAST_SQUARE, _MOST_SQUARE = 1.3e-38, 7e37


class Embedded(NamedTuple):
    """Vectors with the billed tokens; an Embed function returns this or vectors alone."""

    vectors: Sequence[Any]
    tokens: int | None = None


#: Embeds texts: one vector for each, in order, as lists, tuples, or rows of an array.
Embed = Callable[[list[str]], Any]
#: Returns the Embed function of a model.
Factory = Callable[[str], Embed]


@dataclass(frozen=True)
class Settings:
    """Settings of an embedder; ``embed`` is module:factory, and factory(model) returns an Embed."""

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
        raise LookupError(f"cannot import {name}, which must be module:factory: {error}") from error
    return cast("Factory", found)


class ModelFailedError(Exception):
    """The model fails for every text, including a harmless one, or its vectors are refused."""


class Embedder:
    """One embedding process; it claims the next batch while it embeds, so the model never waits for the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, tuple[int, Embed]] = {}  # by name, with their revision
        self._dimensions: dict[str, int] = {}
        self._queue = QueueClient(settings.dsn, settings.pipeline, settings.lease, settings.model)

    def run(self) -> int:
        """Embed until the queue is empty, or forever; return the number of texts.

        Raises ModelFailedError, LookupError.
        """
        factory = load(self._settings.embed)
        done = empty = failed = 0
        with ThreadPoolExecutor(1) as pool:
            next_claim = pool.submit(self._claim)
            while empty < _EMPTY_CLAIMS or not self._settings.until_empty:
                texts = next_claim.result()
                empty = 0 if texts else empty + 1
                if not texts:
                    time.sleep(_IDLE_DELAY)  # each look is a claim, which costs the database
                next_claim = pool.submit(self._claim)
                try:
                    done += self._embed(texts, factory) if texts else 0
                    failed = 0 if texts else failed
                except ModelFailedError:
                    self._release([*texts, *next_claim.result()])
                    failed += 1
                    if failed == _MAX_FAILURES:
                        raise
                    time.sleep(2.0**failed)  # back off: the model fails for every text
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
        """Embed and submit; bisect a failing batch down to the bad text."""
        first = texts[0]
        try:
            embedded = self._call_model([one.text for one in texts], first, factory)
            vectors = [self._format(vector, first.model) for vector in embedded.vectors]
        except Exception as error:  # noqa: BLE001 - the user's code raises anything
            if len(texts) == 1:
                self._fail_text(texts[0], error, factory)
                return 0
            middle = len(texts) // 2
            return self._embed(texts[:middle], factory) + self._embed(texts[middle:], factory)
        self._submit(texts, vectors, embedded.tokens)
        return len(texts)

    def _submit(self, texts: list[ClaimedText], vectors: list[str], tokens: int | None) -> None:
        try:
            self._queue.submit(texts, vectors, tokens)
        except psycopg.errors.ObjectNotInPrerequisiteState as error:  # the model changed since the claim
            raise ModelFailedError(str(error)) from error

    def _fail_text(self, text: ClaimedText, error: Exception, factory: Factory) -> None:
        """Fail a text's rows if a harmless text passes; otherwise the model is at fault."""
        message = f"{type(error).__name__}: {error}"
        try:
            self._format(self._call_model([_PROBE_TEXT], text, factory).vectors[0], text.model)
        except Exception:  # noqa: BLE001 - as above
            raise ModelFailedError(message) from error
        self._queue.release([text], message)

    def _format(self, vector: Any, model: str) -> str:
        if model not in self._dimensions:
            self._dimensions[model] = self._queue.dimensions(model)
        return format_vector(vector, self._dimensions[model])

    def _call_model(self, texts: list[str], claimed: ClaimedText, factory: Factory) -> Embedded:
        answer: Any = self._model(claimed, factory)(texts)
        embedded = answer if isinstance(answer, Embedded) else Embedded(answer)
        if len(embedded.vectors) != len(texts):
            raise ValueError(f"the model returned {len(embedded.vectors)} vectors for {len(texts)} texts")
        return embedded

    def _model(self, claimed: ClaimedText, factory: Factory) -> Embed:
        """Return the function of a model; another revision is loaded and replaces the one before."""
        revision, embed = self._models.pop(claimed.model, (None, None))
        if embed is None or revision != claimed.revision:
            embed = factory(claimed.model)
        self._models[claimed.model] = (claimed.revision, embed)
        return embed


def format_vector(vector: Any, dimensions: int | None = None) -> str:
    """Return pgvector's text format of a list, a tuple or a row of an array.

    Raises ValueError for what embed_submit would refuse, because it refuses a whole call.
    """
    values: Any = vector.tolist() if hasattr(vector, "tolist") else vector
    numbers = [float(number) for number in values]
    if dimensions is not None and len(numbers) != dimensions:
        raise ValueError(f"the vector has {len(numbers)} dimensions, and the model {dimensions}")
    square = sum(number * number for number in numbers)
    if not 0.0 < square < math.inf:
        raise ValueError("the vector is all zeros, or contains NaN or infinity")
    if not _LEAST_SQUARE < square < _MOST_SQUARE:
        raise ValueError("the vector's length is out of range")
    return "[" + ",".join(map(repr, numbers)) + "]"
