"""Whether a pipeline's history goes through a batch API."""

from evergreen.catalog import options
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.embedding.batches.protocol import BatchApi
from evergreen.embedding.batches.registry import discount, of_model


def api_of(pipeline: Pipeline, generation: Generation) -> BatchApi | None:
    """Return the batch API that a generation's history goes through; None if it goes by requests."""
    model = generation.model
    if options.effective(pipeline.options, "backfill_via") != "batch" or not model.is_served:
        return None
    if options.effective(pipeline.options, "on_model_change") == "warn" and model.served.epoch:
        return None  # its vectors are of any model, so they are not cached
    return of_model(model)


def share_of_price(generation: Generation) -> float:
    """Return what a text costs in a batch, as a share of what it costs in a request."""
    endpoint = generation.model.endpoint
    return 1.0 if endpoint is None else 1.0 - discount(endpoint)
