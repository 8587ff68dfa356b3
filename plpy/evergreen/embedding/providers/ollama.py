"""Provider ``ollama``: an Ollama server's /api/embed."""

from typing import Any

from evergreen.core.embedding import Limits, Request
from evergreen.core.pipeline import Model
from evergreen.embedding.http import answers
from evergreen.embedding.providers.http import Served

# https://docs.ollama.com/api/embed names no limits: a text's is the context of the model, and what is longer is
# refused there. A request must be done within a time-out on a machine without a GPU, and one that waits its turn
# while another computes is enough (OLLAMA_NUM_PARALLEL is 1 unless it is set).
_LIMITS = Limits(inputs=32, request_tokens=16_384, in_flight=2)


class Ollama(Served):
    """Sends ``input`` and reads ``embeddings``."""

    name = "ollama"
    path = "api/embed"

    def known_limits(self, model: Model) -> Limits:
        """Small requests."""
        return _LIMITS

    def payload(self, model: Model, texts: list[str], request: Request) -> dict[str, Any]:
        """Return the JSON to send; the server cuts long texts unless it is told not to."""
        return {
            "model": model.remote_name or model.name,
            "input": texts,
            "truncate": request.truncate,
            **({"dimensions": model.dimensions} if model.options.get("send_dimensions") else {}),
        }

    def items(self, answer: Any) -> Any:
        """Return the vectors, which stand in the order of the texts."""
        return answers.member(answer, "embeddings")

    def tokens(self, answer: Any) -> int | None:
        """Return the tokens that were read."""
        return answers.count(answers.member(answer, "prompt_eval_count"))
