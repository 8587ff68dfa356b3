"""The batch formats by name: adding one is one file and one line here."""

from functools import cache

from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches.protocol import BatchApi

#: What the endpoint option batch_api may be.
NAMES = ("gemini", "mistral", "openai", "voyage")


@cache
def _formats() -> dict[str, BatchApi]:
    """Return the formats. Importing HTTP takes a session 0.1 s: once it is needed, and never in a request's thread."""
    from evergreen.embedding.batches.gemini import Gemini  # noqa: PLC0415
    from evergreen.embedding.batches.mistral import Mistral  # noqa: PLC0415
    from evergreen.embedding.batches.openai import OpenAI  # noqa: PLC0415
    from evergreen.embedding.batches.voyage import Voyage  # noqa: PLC0415

    return {"gemini": Gemini(), "mistral": Mistral(), "openai": OpenAI(), "voyage": Voyage()}


def batch_api(endpoint: Endpoint | None) -> BatchApi | None:
    """Return the batch API of an endpoint, or None where it has none."""
    name = endpoint.options.get("batch_api") if endpoint is not None else None
    return None if name is None else _formats()[name]


def of_model(model: Model) -> BatchApi | None:
    """Return the batch API that gives a model's vectors, or None where it has none: its provider is another's."""
    api = batch_api(model.endpoint)
    return api if api is not None and model.provider in api.providers else None


def discount(endpoint: Endpoint) -> float:
    """Return how much cheaper a batch of an endpoint with a batch API is: 0.5 is half the price."""
    given = endpoint.options.get("batch_discount")
    if given is not None:
        return float(given)
    api = batch_api(endpoint)
    return 0.0 if api is None else api.discount
