"""embed_model_add, embed_model_set and embed_model_drop."""

import json
from typing import Any

from evergreen import db
from evergreen.catalog import json_objects, models
from evergreen.catalog.options import DEFAULT
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Endpoint, Model
from evergreen.core.text import quoted
from evergreen.db import event_log, privileges
from evergreen.db.errors import is_unique_violation
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.limits import state
from evergreen.embedding.providers import function, registry
from evergreen.embedding.providers import options as serving
from evergreen.embedding.watch import state as watch
from evergreen.queue import failures
from evergreen.source import functions
from evergreen.storage import vector_cache

SQL = load(__package__)
_MAX_DIMENSIONS = 16000  # pgvector's limit for a stored vector
_SETTABLE = sorted(serving.MODEL.keys() - serving.IDENTITY)
#: Arguments of embed_model_add that could be taken for options.
_ARGUMENTS = ("provider", "dimensions", "remote_name", "endpoint", "name")
#: Options of a built-in model, which is free and has no server.
_BUILT_IN = ("inputs", "watch", "drift_limit")
#: Options for which null is a value of its own, and "default" resets them.
_NULL_MEANS_OFF = ("watch",)


@sql_entry
def embed_model_add(
    name: str | None,
    provider: str | None,
    dimensions: int | None,
    remote_name: str | None,
    endpoint: str | None,
    options: str | None,
) -> None:
    """Register a model; raises 42710, 42704, 42602, 22023, 42883, 42P13, 42501."""
    role = caller()

    def add() -> None:
        if not name or len(name) > 200:  # noqa: PLR2004
            raise UserError(f'"{name or ""}" cannot be the name of a model', "42602", hint="Use 1 to 200 characters.")
        chosen = registry.provider(provider)
        if dimensions is None or not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise UserError(
                f"dimensions must be from 1 to {_MAX_DIMENSIONS}, not {quoted(dimensions)}",
                hint="The model's documentation has the number.",
            )
        given = serving.read("model", serving.MODEL, options, '{"inputs": 100}')
        remote = function.resolve(remote_name) if provider == "function" and remote_name is not None else remote_name
        if endpoint is not None and not db.value(SQL.endpoint_exists, endpoint):
            raise UserError(
                f'endpoint "{endpoint}" does not exist', "42704", hint="Create it with embed_endpoint_set()."
            )
        if endpoint is not None and (chosen.free or chosen.sql):
            raise UserError(f"provider {provider} has no endpoint", hint="Leave endpoint out: it would not be used.")
        served = Endpoint(endpoint, "", None) if endpoint is not None else None
        chosen.check(Model(0, name, str(provider), remote, dimensions, given, served))
        number = _insert(name, str(provider), remote, dimensions, endpoint, json_objects.dumps(given))
        if not chosen.free:
            state.create("model", number, state.MODEL)
        if provider == "function":
            _check_may_run(str(remote), role)
            _create_wrapper(number, str(remote))

    as_extension_owner(add)


def _insert(name: str, provider: str, remote: str | None, dimensions: int, endpoint: str | None, options: str) -> int:
    try:
        return int(
            db.atomically(lambda: db.value(SQL.insert_model, name, provider, remote, dimensions, endpoint, options))
        )
    except db.DatabaseError as error:
        if not is_unique_violation(error):
            raise
        raise UserError(
            f'model "{name}" exists already',
            "42710",
            hint="embed_model_set() changes its options; a change of its vectors needs another name.",
        ) from error


def _check_may_run(remote: str, role: str) -> None:
    """Check EXECUTE on a model's function, which runs as its owner; raises UserError 42501."""
    if not db.value(SQL.may_execute, role, f"{remote}(text[])"):
        raise UserError(
            f"permission denied for function {remote}(text[])",
            "42501",
            hint=f"GRANT EXECUTE ON FUNCTION {remote}(text[]) TO {db.identifier(role)};",
        )


def _create_wrapper(model: int, remote: str) -> None:
    functions.ensure_schema()
    wrapper = function.wrapper(model)
    body = db.literal(f"SELECT {remote}($1)")
    home = db.one(SQL.function_owner_and_schema, f"{remote}(text[])")
    assert home is not None  # it was resolved a moment ago
    path = ", ".join(dict.fromkeys([home["schema"], models.vector_schema(), "public", "pg_temp"]))
    db.ddl(
        SQL.create_wrapper.with_identifiers(
            wrapper=wrapper, vector=f"{models.vector_schema()}.vector", body=body, path=path
        )
    )
    signature = {"signature": f"{wrapper}(text[])"}
    privileges.revoke_all("FUNCTION", signature["signature"])
    functions.set_owner(f"{wrapper}(text[])", db.identifier(home["owner"]))
    db.ddl(SQL.depend_on_extension.with_identifiers(**signature))


def _check_unused(model: Model) -> None:
    users = [row["name"] for row in db.rows(SQL.pipelines_of_model, model.id)]
    if users:
        raise UserError(
            f'model "{model.name}" is used by pipeline {", ".join(users)}',
            "2BP01",
            hint="Drop those with embed_drop() first.",
        )


@sql_entry
def embed_model_drop(name: str | None) -> None:
    """Drop a model; raises 42704, 2BP01 while a pipeline uses it."""

    def drop() -> None:
        if name is None:
            raise UserError("model NULL does not exist", "42704", hint="Pass the name of a model.")
        model = models.by_name(name)
        _check_unused(model)
        if db.value(SQL.is_built_in, model.id):
            raise UserError(f'model "{name}" is built in', "42809", hint="It costs nothing while it is not used.")
        vector_cache.delete_model(model.id)
        watch.delete(model.id)
        db.run(SQL.delete_model, model.id)
        _check_unused(model)  # by a pipeline created during the wait for its lock
        state.drop("model", model.id, state.MODEL)
        if model.provider == "function":
            functions.drop(f"{function.wrapper(model.id)}(text[])")

    as_extension_owner(drop)


@sql_entry
def embed_model_set(name: str | None, options: str | None) -> str:
    """Merge options into a model's and return them; null resets one. Raises 42704, 22023, 55000."""

    def put() -> str:
        if name is None:
            raise UserError("model NULL does not exist", "42704", hint="Pass the name of a model.")
        held = db.one(SQL.lock_model_options, name)
        model = models.by_name(name)
        assert held is not None  # or it would not have been found
        given = json_objects.parse(options, '{"price": 0.02}')
        merged = dict(model.options)
        for option, value in given.items():
            _check(model, option, value, is_built_in=held["built_in"])
            merged.pop(option, None)
            if value != DEFAULT if option in _NULL_MEANS_OFF else value is not None:
                merged[option] = value
        if merged != model.options:
            _put(model, merged)
            if held["built_in"]:
                db.notice(
                    f'options of "{name}" are not part of a dump, because it is built in: set them after a restore'
                )
        return json.dumps(merged)

    return as_extension_owner(put)


def _put(model: Model, options: dict[str, Any]) -> None:
    if "price" in model.options and "price" not in options:
        _check_budgets(model)
    db.run(SQL.set_model_options, model.id, json.dumps(options))
    state.reset_model(model.id)
    watch.look_now(model.id)
    failures.retry_model(model.id)
    event_log.info("model_set", model=model.name)


def _check(model: Model, option: str, value: Any, *, is_built_in: bool) -> None:
    if option in _ARGUMENTS or (option in serving.IDENTITY and value != model.options.get(option)):
        raise UserError(
            f'"{option}" of model "{model.name}" cannot be changed: its vectors were made with it',
            hint="Add the model under another name with embed_model_add(), then"
            " SELECT embed_build('your_pipeline', model => 'that_name');",
        )
    if is_built_in and option in serving.MODEL and option not in _BUILT_IN:
        raise UserError(
            f'model "{model.name}" is built in and has no option "{option}"', hint=f"It has: {', '.join(_BUILT_IN)}."
        )
    if option not in serving.MODEL:
        raise UserError(f'there is no model option "{option}"', hint=f"Options are: {', '.join(_SETTABLE)}.")
    if value is not None and not (option in _NULL_MEANS_OFF and value == DEFAULT):
        serving.check("model", serving.MODEL, option, value)


def _check_budgets(model: Model) -> None:
    """Refuse to remove a price that daily_cost needs."""
    names = [row["name"] for row in db.rows(SQL.pipelines_with_budget, model.id)]
    if names:
        raise UserError(
            f'the price of model "{model.name}" is needed by option "daily_cost" of pipeline {", ".join(names)}',
            "55000",
            hint=f"SELECT embed_alter({db.literal(names[0])}, '{{\"daily_cost\": null}}');",
        )


@sql_entry
def embed_model_accept(name: str | None) -> int:
    """Make the model that is served the one that the vectors are of; return the revision, which stays.

    Raises 42704, 55000.
    """

    def accept() -> int:
        if name is None:
            raise UserError("model NULL does not exist", "42704", hint="Pass the name of a model.")
        return watch.accept(models.by_name(name))

    return as_extension_owner(accept)
