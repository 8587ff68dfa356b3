"""The limits of a model as the view embed_models shows them."""

import json

from evergreen.core.pipeline import Model
from evergreen.db.privileges import sql_entry
from evergreen.embedding.providers import registry


@sql_entry
def shown_limits(
    name: str, provider: str, remote_name: str | None, dimensions: int, options: str
) -> dict[str, int | None]:
    """Return what one request to a model may hold: the provider's limits, or those of the model's options."""
    found = registry.provider(provider).limits(
        Model(0, name, provider, remote_name, dimensions, json.loads(options), endpoint=None)
    )
    return {"inputs": found.inputs, "request_tokens": found.request_tokens, "input_tokens": found.input_tokens}
