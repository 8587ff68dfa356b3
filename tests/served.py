"""Providers behind HTTP, asked without a database."""

from typing import Any

from evergreen.model.cohere import Cohere
from evergreen.model.ollama import Ollama
from evergreen.model.openai import OpenAI
from evergreen.model.served import Served
from evergreen.model.spec import Endpoint, Model
from evergreen.model.voyage import Voyage

#: The registry's, which cannot be imported outside of the server.
SERVED: dict[str, Served] = {made.name: made for made in (OpenAI(), Ollama(), Cohere(), Voyage())}


def model_of(
    provider: str,
    url: str,
    dimensions: int = 8,
    *,
    endpoint: dict[str, Any] | None = None,
    secret: str | None = None,
    name: str = "m",
    **options: Any,
) -> Model:
    """A model as the catalog would give it; ``endpoint``: the endpoint's options."""
    return Model(1, name, provider, None, dimensions, options, Endpoint("here", url, secret, endpoint or {}))
