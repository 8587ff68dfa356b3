"""Provider ``openai``: any server with an OpenAI-compatible /embeddings (OpenAI, TEI, vLLM, LiteLLM …)."""

import base64
from functools import cache
from typing import Any

import numpy as np
import orjson
import requests

from evergreen.errors import RetryableError, UserError
from evergreen.model import http, secrets
from evergreen.model.provider import Answer, Limits, Vector, Vectors
from evergreen.model.request import Request
from evergreen.model.spec import Endpoint, Model

# https://platform.openai.com/docs/api-reference/embeddings/create: 2 048 inputs and 300 000 tokens a request, 8 192
# tokens an input.
_LIMITS = Limits(inputs=2048, request_tokens=300_000, input_tokens=8192)
_IN_FLIGHT = 4


@cache
def _session() -> requests.Session:
    return http.session()


class OpenAI:
    """POSTs ``input`` and reads ``data``, ordered by ``index``."""

    free = False
    sql = False

    def check(self, model: Model) -> None:
        """It is served somewhere."""
        if model.endpoint is None:
            raise UserError(
                "provider openai needs an endpoint",
                hint="An embed_admin names one by embed_endpoint_set('name', 'https://…').",
            )

    def limits(self, model: Model) -> Limits:
        """OpenAI's own limits unless the model's options say otherwise."""
        given = {k: int(model.options[k]) for k in ("inputs", "request_tokens", "input_tokens") if k in model.options}
        in_flight = int(model.endpoint.options.get("max_in_flight", _IN_FLIGHT)) if model.endpoint is not None else 1
        return Limits(**{**vars(_LIMITS), **given, "in_flight": in_flight})

    def embed(self, model: Model, request: Request) -> Answer:
        """Send one request."""
        assert model.endpoint is not None
        prompt = str(model.options.get(f"{request.kind}_prompt", ""))
        body: dict[str, Any] = {
            "model": model.remote_name or model.name,
            "input": [prompt + text for text in request.texts],
            "encoding_format": "base64",
        }
        if model.options.get("send_dimensions"):
            body["dimensions"] = model.dimensions
        url = model.endpoint.url.rstrip("/") + "/embeddings"
        answer = http.post(_session(), url, _headers(model.endpoint), orjson.dumps(body), _timeouts(model.endpoint))
        return Answer(_vectors(answer, len(request.texts), model))


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.secret is not None:
        headers["Authorization"] = f"Bearer {secrets.value(endpoint.secret)}"
    return headers


def _timeouts(endpoint: Endpoint) -> http.Timeouts:
    names = {"connect": "connect_timeout", "read": "read_timeout", "total": "total_timeout"}
    given = {field: float(endpoint.options[name]) for field, name in names.items() if name in endpoint.options}
    return http.Timeouts(**given)


def _vectors(answer: bytes, count: int, model: Model) -> Vectors:
    """Read the vectors in the order of their ``index``, as base64 or floats, whichever came."""
    try:
        items = orjson.loads(answer)["data"]
        ordered = sorted(items, key=lambda item: int(item["index"]))
        order = [int(item["index"]) for item in ordered]
        vectors = [_vector(item["embedding"]) for item in ordered]
    except (ValueError, KeyError, TypeError) as error:
        raise RetryableError(f"model {model.name}: the answer is not a list of embeddings ({error})") from error
    if order != list(range(count)):
        raise RetryableError(f"model {model.name}: {count} texts gave {len(items)} vectors")
    return vectors


def _vector(embedding: Any) -> Vector:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32)
