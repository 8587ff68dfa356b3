"""Provider ``voyage``: Voyage AI's embeddings."""

from typing import Any

from evergreen.core.embedding import Limits, Request
from evergreen.core.pipeline import Model
from evergreen.embedding.http import answers
from evergreen.embedding.providers.http import Served

# https://docs.voyageai.com/reference/embeddings-api: at most 1,000 texts a request, and as many tokens as stand here;
# https://docs.voyageai.com/docs/embeddings: tokens of a text. Both are the smaller figure for a model not named here.
_INPUTS = 1000
_REQUEST_TOKENS = {
    **dict.fromkeys(("voyage-4-lite", "voyage-3.5-lite"), 1_000_000),
    **dict.fromkeys(("voyage-4", "voyage-3.5", "voyage-3-lite", "voyage-3", "voyage-2"), 320_000),
}
_OTHER_REQUEST_TOKENS = 120_000
_INPUT_TOKENS = {"voyage-2": 4_000, **dict.fromkeys(("voyage-large-2", "voyage-code-2", "voyage-law-2"), 16_000)}
_OTHER_INPUT_TOKENS = 32_000


class Voyage(Served):
    """Sends ``input`` and reads ``data``, ordered by ``index``."""

    name = "voyage"
    path = "v1/embeddings"

    def known_limits(self, model: Model) -> Limits:
        """By the model's name."""
        name = model.remote_name or model.name
        return Limits(
            inputs=_INPUTS,
            request_tokens=_REQUEST_TOKENS.get(name, _OTHER_REQUEST_TOKENS),
            input_tokens=_INPUT_TOKENS.get(name, _OTHER_INPUT_TOKENS),
            in_flight=4,
        )

    def payload(self, model: Model, texts: list[str], request: Request) -> dict[str, Any]:
        """Return the JSON to send; numbers are this server's default and have no name."""
        return {
            "model": model.remote_name or model.name,
            "input": texts,
            "input_type": request.kind,
            "truncation": request.truncate,
            **({} if model.options.get("encoding_format") == "float" else {"encoding_format": "base64"}),
            **({"output_dimension": model.dimensions} if model.options.get("send_dimensions") else {}),
        }

    def items(self, answer: Any) -> Any:
        """Return the vectors in the order of their ``index``."""
        return answers.in_order(answers.member(answer, "data"), "embedding")

    def tokens(self, answer: Any) -> int | None:
        """Return what was billed."""
        return answers.count(answers.member(answer, "usage", "total_tokens"))
