"""Provider ``ollama``: an Ollama server's /api/embed, and the digest of its model from /api/tags."""

import re
import time
from dataclasses import dataclass
from typing import Any, cast

from evergreen.core.embedding import Limits, Request
from evergreen.core.errors import ConfigurationError, ModelError, RejectedError
from evergreen.core.pipeline import Model
from evergreen.embedding.http import answers, client
from evergreen.embedding.providers.http import Served, joined

# https://docs.ollama.com/api/embed names no limits: a text's is the context of the model, and what is longer is
# refused there. A request must be done within a time-out on a machine without a GPU, and one that waits its turn
# while another computes is enough (OLLAMA_NUM_PARALLEL is 1 unless it is set).
_LIMITS = Limits(inputs=32, request_tokens=16_384, in_flight=2)
# https://docs.ollama.com/api/tags: the digests of the models that are installed; an answer of /api/embed has none.
_LARGEST_LISTING = 4 * 1024 * 1024
_LISTING_S = 2.0  # seconds for it: vectors wait meanwhile
_LISTED_EVERY_S = 60.0  # while rows are embedded; looks always ask
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12})[0-9a-f]*\Z")  # shown as `ollama list` shows it
_LATEST = ":latest"


class Ollama(Served):
    """Sends ``input`` and reads ``embeddings``."""

    name = "ollama"
    path = "api/embed"

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}

    def known_limits(self, model: Model) -> Limits:
        """Small requests."""
        return _LIMITS

    def payload(self, model: Model, texts: list[str], request: Request) -> dict[str, Any]:
        """Return the JSON to send; the server cuts long texts unless it is told not to."""
        return {
            "model": _remote(model),
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

    def served_as(self, model: Model, answer: Any, request: Request) -> str | None:
        """Return the model's name and digest. Asked after the answer, so that no digest is older than the vectors."""
        name = super().served_as(model, answer, request)
        assert model.endpoint is not None
        known = self._known.setdefault((model.endpoint.url, _remote(model)), _Known())
        now = time.monotonic()
        if request.is_look or (request.kind == "document" and now >= known.ask_at):
            known.ask_at = now + _LISTED_EVERY_S
            self._ask(model, request, known)
        if name is None or known.digest is None:
            return None
        return f"{name}@{known.digest}" if known.digest else name

    def _ask(self, model: Model, request: Request, known: "_Known") -> None:
        """Ask for a model's digest. What cannot be found out proves nothing, so vectors are not refused for it."""
        assert model.endpoint is not None
        try:
            reply = client.send(
                "GET",
                model.endpoint,
                joined(model.endpoint.url, self.path).removesuffix("embed") + "tags",
                largest=_LARGEST_LISTING,
                canceller=request.canceller,
                headers=self.headers(model.endpoint),
                longest=_LISTING_S,
            )
            known.digest = _digest(answers.parsed(reply.body), _remote(model))
        except (ConfigurationError, RejectedError):
            known.digest = ""  # a server of the same protocol that has no such list
        except (ModelError, ValueError):
            return


@dataclass
class _Known:
    """What a server said of a model. ``digest``: None until it was asked, empty if it does not say."""

    digest: str | None = None
    ask_at: float = 0.0  # monotonic


def _remote(model: Model) -> str:
    return model.remote_name or model.name


def _digest(listing: Any, name: str) -> str:
    """Return the digest of a model in a listing, as far as it is shown; empty if there is none."""
    models = answers.member(listing, "models")
    wanted = {name, name + _LATEST} if ":" not in name else {name, name.removesuffix(_LATEST)}
    for entry in cast("list[Any]", models) if isinstance(models, list) else []:
        digest = answers.member(entry, "digest")
        if answers.member(entry, "name") in wanted and isinstance(digest, str) and (found := _DIGEST.match(digest)):
            return found[1]
    return ""
