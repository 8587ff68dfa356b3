"""Provider ``openai``: any server with an OpenAI-compatible /embeddings (OpenAI, TEI, vLLM, LiteLLM …)."""

from typing import Any

from evergreen.core.embedding import Limits, Request
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.http import answers, parameters
from evergreen.embedding.providers.http import Served

# https://platform.openai.com/docs/api-reference/embeddings/create: 2,048 inputs and 300,000 tokens a request, 8,192
# tokens an input.
_LIMITS = Limits(inputs=2048, request_tokens=300_000, input_tokens=8192, in_flight=4)


class OpenAI(Served):
    """Sends ``input`` and reads ``data``, ordered by ``index``."""

    name = "openai"
    path = "embeddings"

    def known_limits(self, model: Model) -> Limits:
        """OpenAI's own, which servers of other models may fall short of."""
        return _LIMITS

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        """Return whom the request is billed to."""
        return parameters.account_headers(endpoint)

    def payload(self, model: Model, texts: list[str], request: Request) -> dict[str, Any]:
        """Return the JSON to send; the protocol knows no way to allow cutting a text."""
        return {
            "model": model.remote_name or model.name,
            "input": texts,
            "encoding_format": model.options.get("encoding_format", "base64"),
            **({"dimensions": model.dimensions} if model.options.get("send_dimensions") else {}),
        }

    def items(self, answer: Any) -> Any:
        """Return the vectors in the order of their ``index``."""
        return answers.in_order(answers.member(answer, "data"), "embedding")

    def tokens(self, answer: Any) -> int | None:
        """Return what was billed."""
        usage = answers.member(answer, "usage")
        total = answers.count(answers.member(usage, "total_tokens"))
        return total if total is not None else answers.count(answers.member(usage, "prompt_tokens"))
