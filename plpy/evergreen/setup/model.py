"""embed_model_add and embed_model_drop."""

from evergreen import db
from evergreen.catalog import counters, models, objects, privileges
from evergreen.detect import functions, store
from evergreen.errors import UserError, shown
from evergreen.gate import caller, elevated, entry
from evergreen.model import function, registry
from evergreen.model.spec import Endpoint, Model
from evergreen.queries import load
from evergreen.setup import serving

SQL = load(__file__)

_MAX_DIMENSIONS = 16000  # pgvector's limit for a stored vector


@entry
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
                f"dimensions must be from 1 to {_MAX_DIMENSIONS}, not {shown(dimensions)}",
                hint="The model's page says how many.",
            )
        given = serving.read("model", serving.MODEL, options, '{"inputs": 100}')
        remote = function.resolve(remote_name) if provider == "function" and remote_name is not None else remote_name
        if endpoint is not None and not db.value(SQL.endpoint_exists, endpoint):
            raise UserError(f'endpoint "{endpoint}" does not exist', "42704", hint="Make it with embed_endpoint_set().")
        if endpoint is not None and (chosen.free or chosen.sql):
            raise UserError(f"provider {provider} has no endpoint", hint="Leave endpoint out: it would not be used.")
        served = Endpoint(endpoint, "", None) if endpoint is not None else None
        chosen.check(Model(0, name, str(provider), remote, dimensions, given, served))
        number = _insert(name, str(provider), remote, dimensions, endpoint, objects.dumps(given))
        if not chosen.free:
            counters.create("model", number, counters.MODEL)
        if provider == "function":
            _check_may_run(str(remote), role)
            _create_wrapper(number, str(remote))

    elevated(add)


def _insert(name: str, provider: str, remote: str | None, dimensions: int, endpoint: str | None, options: str) -> int:
    try:
        return int(db.atomically(lambda: db.value(SQL.insert, name, provider, remote, dimensions, endpoint, options)))
    except db.DatabaseError as error:
        if db.sqlstate(error) != "23505":
            raise
        raise UserError(
            f'model "{name}" exists already',
            "42710",
            hint="embed_model_set() changes its options; what makes another model of it needs another name.",
        ) from error


def _check_may_run(remote: str, role: str) -> None:
    """A model runs as its function's owner: only who may call that function may have it called."""
    if not db.value(function.SQL.may_run, role, f"{remote}(text[])"):
        raise UserError(
            f"permission denied for function {remote}(text[])",
            "42501",
            hint=f"GRANT EXECUTE ON FUNCTION {remote}(text[]) TO {db.identifier(role)};",
        )


def _create_wrapper(model: int, remote: str) -> None:
    store.ensure_schema()
    wrapper = function.wrapper(model)
    body = db.literal(f"SELECT {remote}($1)")
    home = db.one(function.SQL.home, f"{remote}(text[])")
    assert home is not None  # it was resolved a moment ago
    path = ", ".join(dict.fromkeys([home["schema"], models.vector_schema(), "public", "pg_temp"]))
    db.ddl(SQL.wrapper.on(wrapper=wrapper, vector=f"{models.vector_schema()}.vector", body=body, path=path))
    signature = {"signature": f"{wrapper}(text[])"}
    privileges.close("FUNCTION", signature["signature"])
    functions.give(f"{wrapper}(text[])", db.identifier(home["owner"]))
    db.ddl(SQL.follow_extension.on(**signature))


def _check_unused(model: Model) -> None:
    users = [row["name"] for row in db.rows(SQL.users, model.id)]
    if users:
        raise UserError(
            f'model "{model.name}" is used by pipeline {", ".join(users)}',
            "2BP01",
            hint="Drop those with embed_drop() first.",
        )


@entry
def embed_model_drop(name: str | None) -> None:
    """Forget a model; raises 42704, 2BP01 while a pipeline uses it."""

    def drop() -> None:
        if name is None:
            raise UserError("model NULL does not exist", "42704", hint="Pass the name of a model.")
        model = models.by_name(name)
        _check_unused(model)
        if db.value(SQL.is_built_in, model.id):
            raise UserError(f'model "{name}" is built in', "42809", hint="It costs nothing where it is not used.")
        db.run(SQL.delete, model.id)
        _check_unused(model)  # by a pipeline whose session was waited for
        counters.drop("model", model.id, counters.MODEL)
        if model.provider == "function":
            functions.drop(f"{function.wrapper(model.id)}(text[])")

    elevated(drop)
