"""pgai's embedding configurations as models of ours: the one that is there, or the calls that make it."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from evergreen_host.database import Link, Row
from evergreen_host.errors import EvergreenError
from evergreen_host.importers.vectorizers import Part

_URLS = {
    "openai": "https://api.openai.com/v1",
    "ollama": "http://localhost:11434",
    "voyage": "https://api.voyageai.com",
    "cohere": "https://api.cohere.com",
}
_LITELLM = frozenset(_URLS)  # what LiteLLM's names may begin with, and we speak too
_FIXED_SIZE = "text-embedding-ada-002"  # refuses to be asked for dimensions
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_MODELS = """
SELECT model, provider, coalesce(remote_name, model) AS remote, dimensions, options
FROM {schema}.embed_models ORDER BY model
"""
_ENDPOINT = "SELECT endpoint FROM {schema}.embed_endpoints WHERE endpoint = %s"
_ADD = "SELECT {schema}.embed_model_add(%s, %s, %s, remote_name => %s, endpoint => %s, options => %s)"


@dataclass(frozen=True)
class Wanted:
    """The model of a vectorizer. ``provider`` None: one of LiteLLM's that we know under another name, if at all."""

    provider: str | None
    remote: str
    dimensions: int
    url: str | None = None
    secret: str | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def words(self) -> str:
        """The model as one names it."""
        return f"{self.remote} of {self.provider or 'LiteLLM'} with {self.dimensions} dimensions"


@dataclass(frozen=True)
class Model:
    """A model of ours. ``adding``: the arguments of the embed_model_add that makes it, when it is not there yet."""

    name: str
    adding: tuple[Any, ...] | None = None


def wanted(embedding: Part, obstacles: list[str]) -> Wanted:
    """Read what embeds a vectorizer's texts; adds to obstacles what makes its vectors others than ours would be."""
    kind, remote, dimensions = embedding.get("implementation"), str(embedding.get("model")), embedding["dimensions"]
    secret = embedding.get("api_key_name")
    if kind == "openai":
        options = {} if remote == _FIXED_SIZE else {"send_dimensions": True}
        return Wanted("openai", remote, dimensions, embedding.get("base_url"), secret, options)
    if kind == "ollama":
        return Wanted("ollama", remote, dimensions, embedding.get("base_url"))
    if kind == "voyageai":
        _check_purpose(embedding.get("input_type"), {"document"}, obstacles)
        return Wanted("voyage", remote, dimensions, None, secret)
    if kind == "litellm":
        return _of_litellm(remote, dimensions, secret, embedding.get("extra_options") or {}, obstacles)
    obstacles.append(f"its embedding {kind} is not known here")
    return Wanted(None, remote, dimensions)


def _of_litellm(remote: str, dimensions: int, secret: str | None, extra: Part, obstacles: list[str]) -> Wanted:
    prefix, slash, rest = remote.partition("/")
    if not slash or prefix not in _LITELLM:
        return Wanted("openai" if not slash else None, remote, dimensions, None, secret)
    if prefix == "voyage":
        _check_purpose(extra.get("input_type"), {"document"}, obstacles)
    if prefix == "cohere":
        _check_purpose(extra.get("input_type", "search_document"), {"search_document"}, obstacles)
    options = {"send_dimensions": True} if "dimensions" in extra else {}
    return Wanted(prefix, rest, dimensions, extra.get("api_base"), secret, options)


def _check_purpose(given: Any, expected: set[str], obstacles: list[str]) -> None:
    if given not in expected:
        obstacles.append(
            f"its texts were embedded with input_type {json.dumps(given)}, and Evergreen embeds them as documents:"
            " other vectors"
        )


def resolve(link: Link, model: Wanted, named: str | None, endpoint: str | None) -> Model:
    """Find the model, or say how it is to be added on an endpoint; raises EvergreenError with the calls to make."""
    there = {row["model"]: row for row in link.rows(_MODELS)}
    if named is not None:
        return _named(there, model, named)
    same = [name for name, row in there.items() if _difference(row, model) is None]
    if same:
        return Model(same[0])
    if endpoint is None or model.provider is None:
        raise EvergreenError(f"model {model.words} is not registered here", calls(model, link.schema))
    if not link.rows(_ENDPOINT, endpoint):
        raise EvergreenError(f'endpoint "{endpoint}" does not exist', calls(model, link.schema))
    name = model.remote if model.remote not in there else f"{model.remote}-{model.dimensions}"
    remote = model.remote if name != model.remote else None
    return Model(name, (name, model.provider, model.dimensions, remote, endpoint, json.dumps(model.options)))


def _named(there: dict[str, Row], model: Wanted, named: str) -> Model:
    if named not in there:
        raise EvergreenError(f'model "{named}" does not exist', "SELECT model FROM embed_models lists those that do")
    difference = _difference(there[named], model)
    if difference is not None:
        raise EvergreenError(
            f'the vectors are not those of model "{named}", which {difference}; they are of {model.words}',
            "leave --model out to have the right one found; vectors of another model cannot be used",
        )
    return Model(named)


def _difference(row: Row, model: Wanted) -> str | None:
    if row["dimensions"] != model.dimensions:
        return f"has {row['dimensions']} dimensions"
    if model.provider is None:  # who names a model of LiteLLM's says that it is the same
        return None if row["provider"] in {*_URLS, "function"} else f"is {row['provider']}'s"
    if (row["provider"], row["remote"]) != (model.provider, model.remote):
        return f"is {row['remote']} of {row['provider']}"
    return "puts a prompt before documents" if row["options"].get("document_prompt") else None


def add(link: Link, model: Model) -> None:
    """Register the model where that is still to be done."""
    if model.adding is not None:
        link.rows(_ADD, *model.adding)


def calls(model: Wanted, schema: str) -> str:
    """Return the calls that register a model, to be typed."""
    provider = model.provider or "openai"
    url = model.url or (_URLS[provider] if model.provider else "http://localhost:4000/v1")
    is_open = url.startswith("http:") and (urlsplit(url).hostname or "") not in _LOOPBACK
    secret = f", secret => {_quoted(model.secret)}" if model.secret else ""
    allow = """, options => '{"allow_http": true}'""" if is_open else ""
    options = f", options => {_quoted(json.dumps(model.options))}" if model.options else ""
    return (
        f"SELECT {schema}.embed_endpoint_set({_quoted(provider)}, {_quoted(url)}{secret}{allow});"
        f" SELECT {schema}.embed_model_add({_quoted(model.remote)}, {_quoted(provider)}, {model.dimensions},"
        f" endpoint => {_quoted(provider)}{options});"
        + ("" if model.provider else " and name it in --model, if it is the same (a LiteLLM proxy can serve it)")
        + (" The secret is a file of that name in /etc/evergreen/secrets." if model.secret else "")
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
