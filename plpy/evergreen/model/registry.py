"""The providers by name: adding one is one file and one line here."""

from evergreen.errors import UserError, shown
from evergreen.model.cohere import Cohere
from evergreen.model.function import Function
from evergreen.model.hash import Hash
from evergreen.model.ollama import Ollama
from evergreen.model.openai import OpenAI
from evergreen.model.provider import Provider
from evergreen.model.spec import Model
from evergreen.model.voyage import Voyage
from evergreen.model.wordllama import WordLlama

PROVIDERS: dict[str, Provider] = {
    "wordllama": WordLlama(),
    "hash": Hash(),
    "function": Function(),
    "openai": OpenAI(),
    "ollama": Ollama(),
    "cohere": Cohere(),
    "voyage": Voyage(),
}


def may_cost(model: Model) -> bool:
    """True when a call of a model may cost money: it is not ours, and its price is not known to be 0."""
    return not provider(model.provider).free and model.price != 0.0


def provider(name: str | None) -> Provider:
    """Find a provider; raises UserError 22023."""
    if name not in PROVIDERS:
        raise UserError(f"there is no provider {shown(name)}", hint=f"Providers are: {', '.join(sorted(PROVIDERS))}.")
    return PROVIDERS[name]
