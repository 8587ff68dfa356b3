"""The batch formats by name: adding one is one file and one line here."""

from functools import cache

from evergreen.core.pipeline import Endpoint
from evergreen.embedding.batches.protocol import BatchApi

#: What the endpoint option batch_api may be.
NAMES = ("gemini", "mistral", "openai", "voyage")


@cache
def _formats() -> dict[str, BatchApi]:
    """Return the formats. Importing HTTP takes a session 0.1 s: once it is needed, and never in a request's thread."""
    return {}


def batch_api(endpoint: Endpoint | None) -> BatchApi | None:
    """Return the batch API of an endpoint, or None where it has none."""
    name = endpoint.options.get("batch_api") if endpoint is not None else None
    return None if name is None else _formats()[name]


def discount(endpoint: Endpoint) -> float:
    """Return how much cheaper a batch of an endpoint with a batch API is: 0.5 is half the price."""
    given = endpoint.options.get("batch_discount")
    if given is not None:
        return float(given)
    api = batch_api(endpoint)
    return 0.0 if api is None else api.discount
