"""What providers behind HTTP share: the request to an endpoint, its limits, and reading the answer."""

import time
from abc import ABC, abstractmethod
from typing import Any, cast

import orjson

from evergreen.core import text as text_module
from evergreen.core.embedding import Answer, Limits, Request, Vectors
from evergreen.core.errors import ConfigurationError, RetryableError, SuspectError, UserError, doubtful
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.http import answers, client
from evergreen.embedding.http.reply import Reply
from evergreen.embedding.http.urls import joined

_A_NUMBER = 32  # bytes: the longest that a float becomes, with comma and blanks
_OTHER_DIMENSIONS = 4096  # an answer of a few more dimensions than expected is still read, to say which
_AROUND_A_VECTOR = 1024
_AROUND_ALL = 1024 * 1024
_LONGEST_NAME = 200  # characters of what a server calls its model
_LONGEST_ESCAPE = 6  # some servers send the texts back


class Served(ABC):
    """A provider that is an HTTP server: subclasses say what is sent and where the vectors stand in the answer."""

    free = False
    sql = False
    zeros = False
    #: As it stands in embed.model.
    name: str
    #: Path of the protocol, as far as the endpoint's URL does not end with it already.
    path: str

    @abstractmethod
    def known_limits(self, model: Model) -> Limits:
        """Return the limits that the provider documents, with its source."""

    @abstractmethod
    def payload(self, model: Model, texts: list[str], request: Request) -> dict[str, Any]:
        """Return the JSON to send; ``texts`` are those of the request with their prompt."""

    @abstractmethod
    def items(self, answer: Any) -> Any:
        """Return the list of vectors in an answer, in the order of the texts; raises ValueError."""

    @abstractmethod
    def tokens(self, answer: Any) -> int | None:
        """Return the tokens that were billed, where the answer says so."""

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        """Return additional headers."""
        return {}

    def served_as(self, model: Model, answer: Any, request: Request) -> str | None:
        """Return what the server calls the model that answered; None where it does not say."""
        name = answers.member(answer, "model")
        return name[:_LONGEST_NAME] if isinstance(name, str) else None

    def check(self, model: Model) -> None:
        """It is served somewhere."""
        if model.endpoint is None:
            raise UserError(
                f"provider {self.name} needs an endpoint",
                hint="An embed_admin names one by embed_endpoint_set('name', 'https://…').",
            )

    def limits(self, model: Model) -> Limits:
        """Return the provider's limits unless the options of the model and the endpoint say otherwise."""
        given = {k: int(model.options[k]) for k in ("inputs", "request_tokens", "input_tokens") if k in model.options}
        if model.endpoint is not None and "max_in_flight" in model.endpoint.options:
            given["in_flight"] = int(model.endpoint.options["max_in_flight"])
        return Limits(**{**vars(self.known_limits(model)), **given})

    def embed(self, model: Model, request: Request) -> Answer:
        """Send one request."""
        assert model.endpoint is not None
        prompt = str(model.options.get(f"{request.kind}_prompt", ""))
        texts = [prompt + text for text in request.texts]
        body = orjson.dumps(self.payload(model, texts, request))
        reply = client.post(
            model.endpoint,
            joined(model.endpoint.url, self.path),
            body,
            largest=_largest(len(texts), model, len(body)),
            canceller=request.canceller,
            headers=self.headers(model.endpoint),
        )
        answer, items = self._read(model, reply)
        if len(items) != len(texts):
            raise SuspectError(f"model {model.name}: {len(texts)} texts gave {len(items)} vectors")
        vectors = [answers.vector(item) for item in items]
        _check_dimensions(model, vectors)
        billed = self.tokens(answer)
        used = billed if billed is not None else sum(map(text_module.estimate_tokens, texts))
        pause = answers.after_answer(reply.headers, used, time.time())
        return Answer(vectors, billed, pause, self.served_as(model, answer, request))

    def _read(self, model: Model, reply: Reply) -> tuple[Any, list[Any]]:
        try:
            answer = answers.parsed(reply.body)
            items = self.items(answer)
        except ValueError:
            items = answer = None
        if not isinstance(items, list):
            why = f"model {model.name}: the answer holds no list of embeddings: {reply.shown()}"
            raise doubtful(RetryableError(why))
        return answer, cast("list[Any]", items)


def _largest(count: int, model: Model, sent: int) -> int:
    vector = max(model.dimensions, _OTHER_DIMENSIONS) * _A_NUMBER + _AROUND_A_VECTOR
    return count * vector + sent * _LONGEST_ESCAPE + _AROUND_ALL


def _check_dimensions(model: Model, vectors: Vectors) -> None:
    """Say what to do when all vectors agree on another number of dimensions; single ones are the caller's matter."""
    found = {len(vector) for vector in vectors}
    if len(found) != 1 or found <= {0, model.dimensions}:
        return
    text = f"model {model.name} is registered with {model.dimensions} dimensions, and the server gives {found.pop()}"
    if model.options.get("send_dimensions"):
        text += ": it ignores the number that it is sent (option send_dimensions)"
    else:
        text += '; add it with that number, or with options => {"send_dimensions": true} if it can give fewer'
    raise doubtful(ConfigurationError(text))
