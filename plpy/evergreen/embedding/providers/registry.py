"""The providers by name: adding one is one file and one line here."""

from functools import cache

from evergreen.core.embedding import Provider
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Model
from evergreen.core.text import quoted
from evergreen.embedding.providers.function import Function
from evergreen.embedding.providers.local import Hash, WordLlama

_LOCAL: dict[str, Provider] = {
    "wordllama": WordLlama(),
    "hash": Hash(),
    "function": Function(),
}


@cache
def _over_http() -> dict[str, Provider]:
    """Return the others. Importing HTTP takes a session 0.1 s: once it is needed, and never in a request's thread."""
    from evergreen.embedding.providers.cohere import Cohere  # noqa: PLC0415
    from evergreen.embedding.providers.ollama import Ollama  # noqa: PLC0415
    from evergreen.embedding.providers.openai import OpenAI  # noqa: PLC0415
    from evergreen.embedding.providers.voyage import Voyage  # noqa: PLC0415

    return {
        "openai": OpenAI(),
        "ollama": Ollama(),
        "cohere": Cohere(),
        "voyage": Voyage(),
    }


def may_cost(model: Model) -> bool:
    """Return whether a call of a model may cost money: it is not ours, and its price is not known to be 0."""
    return not provider(model.provider).free and model.price != 0.0


def provider(name: str | None) -> Provider:
    """Find a provider; raises UserError 22023."""
    if name in _LOCAL:
        return _LOCAL[name]
    if name not in _over_http():
        names = ", ".join(sorted([*_LOCAL, *_over_http()]))
        raise UserError(f"there is no provider {quoted(name)}", hint=f"Providers are: {names}.")
    return _over_http()[name]
