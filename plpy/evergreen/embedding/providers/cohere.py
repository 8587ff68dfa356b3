"""Provider ``cohere``: version 2 of Cohere's embed."""

from typing import Any

from evergreen.core.embedding import Limits, Request
from evergreen.core.pipeline import Model
from evergreen.embedding.http import answers
from evergreen.embedding.providers.http import Served

# https://docs.cohere.com/reference/embed: at most 96 texts a request. https://docs.cohere.com/docs/cohere-embed: the
# models of version 3 read 512 tokens of a text, embed-v4.0 128,000 (which Oracle's page on it counts over a request:
# https://docs.oracle.com/iaas/Content/generative-ai/cohere-embed-4.htm).
_LIMITS = Limits(inputs=96, request_tokens=128_000, input_tokens=128_000, in_flight=4)
_VERSION_3 = Limits(inputs=96, input_tokens=512, in_flight=4)
_INPUT_TYPES = {"document": "search_document", "query": "search_query"}


class Cohere(Served):
    """Sends ``texts`` and reads ``embeddings.float``."""

    name = "cohere"
    path = "v2/embed"

    def known_limits(self, model: Model) -> Limits:
        """By the version in the model's name."""
        return _VERSION_3 if (model.remote_name or model.name).endswith("v3.0") else _LIMITS

    def payload(self, model: Model, texts: list[str], request: Request) -> dict[str, Any]:
        """Return the JSON to send; documents and questions are told apart by their input type."""
        return {
            "model": model.remote_name or model.name,
            "texts": texts,
            "input_type": _INPUT_TYPES[request.kind],
            "embedding_types": ["float"],
            "truncate": "END" if request.truncate else "NONE",
            **({"output_dimension": model.dimensions} if model.options.get("send_dimensions") else {}),
        }

    def items(self, answer: Any) -> Any:
        """Return the vectors by their type, or bare, as servers of the older version give them."""
        found = answers.member(answer, "embeddings")
        if isinstance(found, dict):
            return answers.member(found, "float") or answers.member(found, "base64")
        return found

    def tokens(self, answer: Any) -> int | None:
        """Return what was billed."""
        return answers.count(answers.member(answer, "meta", "billed_units", "input_tokens"))
