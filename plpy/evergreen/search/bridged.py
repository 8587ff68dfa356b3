"""Which model embeds a question to the active generation: its own, or the next one's through a bridge."""

from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model, Pipeline
from evergreen.storage import bridges
from evergreen.storage.bridges import Bridge


@frozen
class Asking:
    """The model of a question, and the bridge that maps its vector."""

    model: Model
    bridge: Bridge | None

    def mapped(self, vector: str) -> str:
        """Return the model's vector as one of the active generation."""
        return self.bridge.map(vector) if self.bridge is not None else vector


def asking(pipeline: Pipeline) -> Asking:
    """Return by which model to embed a question to a pipeline; needs the extension's rights.

    A bridge is that of the very generations that the pipeline was found with, whatever happened since: its vectors are
    of the active one's space.
    """
    bridge = bridges.find(pipeline.active, pipeline.building)
    if bridge is None or pipeline.building is None:
        return Asking(pipeline.active.model, None)
    return Asking(pipeline.building.model, bridge)
