"""The four ways in which models are asked over HTTP: what a request must look like, and how an answer does."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

JSON = dict[str, Any]
Item = list[float] | str | None  # a vector as numbers or base64, or what a broken server gives for one


@dataclass(frozen=True)
class Protocol:
    """One provider: where its requests arrive, which fields they have, and its answer to them."""

    name: str
    base: str  # path of the URL that embed_endpoint_set gets
    path: str  # where requests arrive
    needed: dict[str, Callable[[Any], bool]]
    allowed: dict[str, Callable[[Any], bool]]
    answer: Callable[["Call", list[Item]], JSON]
    texts_in: str = "input"

    def complaint(self, body: JSON) -> str | None:
        """Say what is wrong with a request, if anything is."""
        checks = {**self.needed, **self.allowed}
        for name in (set(self.needed) - set(body)) | (set(body) - set(checks)):
            return f"{self.name}: {name} is missing or unknown"
        wrong = [name for name, value in body.items() if not checks[name](value)]
        return f"{self.name}: {wrong[0]} cannot be {body[wrong[0]]!r}" if wrong else None


@dataclass(frozen=True)
class Call:
    """One request as it came in."""

    protocol: Protocol
    path: str
    headers: dict[str, str] = field(repr=False)  # names in lower case
    body: JSON
    query: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        return self.body[self.protocol.texts_in]

    @property
    def tokens(self) -> int:
        """What this model bills: a token a word."""
        return sum(len(text.split()) for text in self.texts)

    @property
    def dimensions(self) -> int | None:
        """How many dimensions were asked for, if any number was."""
        return self.body.get("dimensions", self.body.get("output_dimension"))


def as_base64(item: Item) -> Item:
    """A vector as base64 of little-endian float32; what is no vector stays what it is."""
    if not isinstance(item, list) or not item or not all(isinstance(number, float) for number in item):
        return item
    with np.errstate(over="ignore"):
        return base64.b64encode(np.asarray(item, dtype="<f4").tobytes()).decode()


def _some(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _texts(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and 0 < len(value) <= most and all(isinstance(v, str) for v in value)


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return type(value) is int and value > 0


def _listed(call: Call, items: list[Item]) -> JSON:
    if call.body.get("encoding_format") == "base64":
        items = [as_base64(item) for item in items]
    data = [{"object": "embedding", "index": i, "embedding": item} for i, item in enumerate(items)]
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens}
    return {"object": "list", "data": data, "model": call.body["model"], "usage": usage}


def _ollama(call: Call, items: list[Item]) -> JSON:
    return {"model": call.body["model"], "embeddings": items, "total_duration": 1, "prompt_eval_count": call.tokens}


def _cohere(call: Call, items: list[Item]) -> JSON:
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": call.tokens}}
    return {"id": "x", "embeddings": {"float": items}, "texts": call.texts, "meta": meta}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "openai",
            "/v1",
            "/v1/embeddings",
            {"model": _some, "input": _texts(2048)},
            {"encoding_format": _one_of("float", "base64"), "dimensions": _number},
            _listed,
        ),
        Protocol(
            "ollama",
            "/ollama",
            "/ollama/api/embed",
            {"model": _some, "input": _texts(10_000)},
            {"truncate": _flag, "dimensions": _number},
            _ollama,
        ),
        Protocol(
            "cohere",
            "/cohere",
            "/cohere/v2/embed",
            {
                "model": _some,
                "texts": _texts(96),
                "input_type": _one_of("search_document", "search_query"),
                "embedding_types": _one_of(["float"]),
            },
            {"truncate": _one_of("NONE", "END"), "output_dimension": _number},
            _cohere,
            texts_in="texts",
        ),
        Protocol(
            "voyage",
            "/voyage/v1",
            "/voyage/v1/embeddings",
            {"model": _some, "input": _texts(1000), "input_type": _one_of("document", "query")},
            {
                "truncation": _flag,
                "output_dimension": _number,
                "encoding_format": _one_of("base64"),
            },
            _listed,
        ),
    )
}
BY_PATH = {protocol.path: protocol for protocol in PROTOCOLS.values()} | {
    f"/openai/{path}/embeddings": PROTOCOLS["openai"]
    for path in ("v1", "deployments/e")  # as Azure has them
}
