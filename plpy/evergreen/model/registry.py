"""The providers by name: adding one is one file and one line here."""

from evergreen.errors import UserError, shown
from evergreen.model.cohere import Cohere
from evergreen.model.function import Function
from evergreen.model.hash import Hash
from evergreen.model.ollama import Ollama
from evergreen.model.openai import OpenAI
from evergreen.model.provider import Provider
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


def provider(name: str | None) -> Provider:
    """Find a provider; raises UserError 22023."""
    if name not in PROVIDERS:
        raise UserError(f"there is no provider {shown(name)}", hint=f"Providers are: {', '.join(sorted(PROVIDERS))}.")
    return PROVIDERS[name]
