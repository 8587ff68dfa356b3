"""Maps pgai's embedding configuration to a registered model, or to the calls that register it."""

import json
from dataclasses import dataclass, field
from typing import Any, LiteralString
from urllib.parse import urlsplit

from psycopg import sql

from evergreen_host.database import Database, Row
from evergreen_host.errors import EvergreenError
from evergreen_host.importers.vectorizers import Config

_DEFAULT_URLS = {
    "openai": "https://api.openai.com/v1",
    "ollama": "http://localhost:11434",
    "voyage": "https://api.voyageai.com",
    "cohere": "https://api.cohere.com",
}
_LITELLM = frozenset(_DEFAULT_URLS)  # LiteLLM's prefixes that are our providers, too
_FIXED_DIMENSIONS = "text-embedding-ada-002"  # rejects the parameter dimensions
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_MODELS = """
SELECT model, provider, coalesce(remote_name, model) AS remote_name, dimensions, options
FROM {schema}.embed_models ORDER BY model
"""
_ENDPOINT = "SELECT endpoint FROM {schema}.embed_endpoints WHERE endpoint = %s"
_ADD = "SELECT {schema}.embed_model_add(%s, %s, %s, remote_name => %s, endpoint => %s, options => %s)"


@dataclass(frozen=True)
class SourceModel:
    """The model of a vectorizer; ``provider`` is None for a LiteLLM provider that Evergreen lacks."""

    provider: str | None
    remote_name: str
    dimensions: int
    url: str | None = None
    secret: str | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def description(self) -> str:
        """Name, provider and dimensions, for messages."""
        return f"{self.remote_name} of {self.provider or 'LiteLLM'} with {self.dimensions} dimensions"


@dataclass(frozen=True)
class Model:
    """A model of Evergreen's. ``add_arguments``: the arguments of embed_model_add if it is not registered yet."""

    name: str
    add_arguments: tuple[Any, ...] | None = None


def source_model(embedding: Config, obstacles: list[str]) -> SourceModel:
    """Return the model that a vectorizer embeds with; appends to obstacles if its vectors would differ from ours."""
    kind, remote_name = embedding.get("implementation"), str(embedding.get("model"))
    dimensions = embedding["dimensions"]
    secret = embedding.get("api_key_name")
    if kind == "openai":
        options = {} if remote_name == _FIXED_DIMENSIONS else {"send_dimensions": True}
        return SourceModel("openai", remote_name, dimensions, embedding.get("base_url"), secret, options)
    if kind == "ollama":
        return SourceModel("ollama", remote_name, dimensions, embedding.get("base_url"))
    if kind == "voyageai":
        _check_input_type(embedding.get("input_type"), {"document"}, obstacles)
        return SourceModel("voyage", remote_name, dimensions, None, secret)
    if kind == "litellm":
        return _from_litellm(remote_name, dimensions, secret, embedding.get("extra_options") or {}, obstacles)
    obstacles.append(f"its embedding {kind} is not supported")
    return SourceModel(None, remote_name, dimensions)


def _from_litellm(
    remote_name: str, dimensions: int, secret: str | None, extra: Config, obstacles: list[str]
) -> SourceModel:
    prefix, slash, rest = remote_name.partition("/")
    if not slash or prefix not in _LITELLM:
        return SourceModel("openai" if not slash else None, remote_name, dimensions, None, secret)
    if prefix == "voyage":
        _check_input_type(extra.get("input_type"), {"document"}, obstacles)
    if prefix == "cohere":
        _check_input_type(extra.get("input_type", "search_document"), {"search_document"}, obstacles)
    options = {"send_dimensions": True} if "dimensions" in extra else {}
    return SourceModel(prefix, rest, dimensions, extra.get("api_base"), secret, options)


def _check_input_type(given: Any, expected: set[str], obstacles: list[str]) -> None:
    if given not in expected:
        obstacles.append(
            f"its texts were embedded with input_type {json.dumps(given)}; Evergreen embeds them as documents, which"
            " gives different vectors"
        )


def resolve(database: Database, model: SourceModel, named: str | None, endpoint: str | None) -> Model:
    """Find the model, or plan its registration; raises EvergreenError whose hint is the calls that register it."""
    registered = {row["model"]: row for row in database.rows(_MODELS)}
    if named is not None:
        return _by_name(registered, model, named)
    matching = [name for name, row in registered.items() if _difference(row, model) is None]
    if matching:
        return Model(matching[0])
    if endpoint is None or model.provider is None:
        raise EvergreenError(f"model {model.description} is not registered", registration_calls(model, database.schema))
    if not database.rows(_ENDPOINT, endpoint):
        raise EvergreenError(f'endpoint "{endpoint}" does not exist', registration_calls(model, database.schema))
    name = model.remote_name if model.remote_name not in registered else f"{model.remote_name}-{model.dimensions}"
    remote_name = model.remote_name if name != model.remote_name else None
    return Model(name, (name, model.provider, model.dimensions, remote_name, endpoint, json.dumps(model.options)))


def _by_name(registered: dict[str, Row], model: SourceModel, named: str) -> Model:
    if named not in registered:
        raise EvergreenError(f'model "{named}" does not exist', "SELECT model FROM embed_models;")
    difference = _difference(registered[named], model)
    if difference is not None:
        raise EvergreenError(
            f'model "{named}" {difference}; the vectors are of {model.description}',
            "omit --model to find the matching model; vectors of different models cannot be mixed",
        )
    return Model(named)


def _difference(row: Row, model: SourceModel) -> str | None:
    if row["dimensions"] != model.dimensions:
        return f"has {row['dimensions']} dimensions"
    if model.provider is None:  # the user vouches for the model
        return None if row["provider"] in {*_DEFAULT_URLS, "function"} else f"is {row['provider']}'s"
    if (row["provider"], row["remote_name"]) != (model.provider, model.remote_name):
        return f"is {row['remote_name']} of {row['provider']}"
    return "prefixes documents with a prompt" if row["options"].get("document_prompt") else None


def add(database: Database, model: Model) -> None:
    """Register the model if it is not registered yet."""
    if model.add_arguments is not None:
        database.rows(_ADD, *model.add_arguments)


def registration_calls(model: SourceModel, schema: str) -> str:
    """Return the calls that register a model, for the user to run."""
    provider = model.provider or "openai"
    url = model.url or (_DEFAULT_URLS[provider] if model.provider else "http://localhost:4000/v1")
    is_open = url.startswith("http:") and (urlsplit(url).hostname or "") not in _LOOPBACK
    allow_http = '{"allow_http": true}' if is_open else None
    options = json.dumps(model.options) if model.options else None
    hint = (
        _call(schema, "embed_endpoint_set", provider, url, secret=model.secret, options=allow_http)
        + " "
        + _call(
            schema, "embed_model_add", model.remote_name, provider, model.dimensions, endpoint=provider, options=options
        )
    )
    if model.provider is None:
        hint += " then pass it with --model, if it is the same model (a LiteLLM proxy can serve it)"
    return f"{hint} Store the key in /etc/evergreen/secrets/{model.secret}." if model.secret else hint


def _call(schema: str, function: LiteralString, *arguments: str | int, **named: str | None) -> str:
    values: list[sql.Composable] = [sql.Literal(value) for value in arguments]
    for name, value in named.items():
        if value is not None:
            values.append(sql.SQL("{} => {}").format(sql.SQL(name), sql.Literal(value)))  # pyright: ignore[reportArgumentType]
    call = sql.SQL("SELECT {}.{}({});")
    return call.format(sql.Identifier(schema), sql.SQL(function), sql.SQL(", ").join(values)).as_string()
