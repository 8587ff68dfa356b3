"""What a change of the model behind a name means to a claim: nothing is sent, and what was sent before is not written.

Vectors requested while one model was served must not be written once another is known to be. So a writer compares the
epoch of the model's watch with that of its claim, in a statement after its transaction has an id. If they agree and the
change is committed right afterwards, the worker that marks vectors waits for this transaction: see ``model_watch``.
"""

from evergreen.catalog import models, options
from evergreen.core.job import Claim
from evergreen.core.pipeline import Generation, Model, Pipeline
from evergreen.embedding.limits.admission import Permit
from evergreen.embedding.watch import packaged

_WAIT_S = 30.0  # seconds until rows are claimed again, to see whether the model is back


def tolerates(pipeline: Pipeline) -> bool:
    """Return whether a pipeline takes the vectors of whatever model is served."""
    return options.effective(pipeline.options, "on_model_change") == "warn"


def stopped(pipeline: Pipeline, generation: Generation) -> Permit | None:
    """Return why nothing is sent to a generation's model because it is another now; None if it is not."""
    if tolerates(pipeline):
        return None
    if generation.model.is_served:
        return packaged.unavailable(generation.model)
    return Permit(_WAIT_S, open=True, reason=describe(generation.model), scope="service")


def describe(model: Model) -> str:
    """Return what changed, as a message says it."""
    if model.served.revision is None:
        return f'model "{model.name}" changed, or its answers alternate between models'
    return (
        f'model "{model.name}" changed: it serves revision {model.served.revision}, the vectors are of {model.revision}'
    )


def is_current(claim: Claim) -> bool:
    """Return whether the vectors of a claim may be written by this transaction, which has an id from now on."""
    model = claim.generation.model
    is_served = packaged.is_served(model)
    if tolerates(claim.pipeline):
        return True
    return is_served and models.is_in_epoch(model, model.served.epoch)
