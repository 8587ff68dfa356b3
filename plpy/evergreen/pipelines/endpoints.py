"""embed_endpoint_set, and whether an endpoint's secrets can be read."""

import json

from evergreen import db
from evergreen.catalog import json_objects, pipelines
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Endpoint
from evergreen.db import event_log
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.http import addresses, credentials, parameters
from evergreen.embedding.limits import state
from evergreen.embedding.providers import options as serving
from evergreen.queue import failures

SQL = load(__package__)
_LONGEST_NAME = 200


@sql_entry
def embed_endpoint_set(name: str | None, url: str | None, secret: str | None, options: str | None) -> None:
    """Create or change an endpoint; raises 42602, 22023."""

    def put() -> None:
        if not name or len(name) > _LONGEST_NAME:
            raise UserError(
                f"an endpoint needs a name of 1 to {_LONGEST_NAME} characters",
                "42602",
                hint="For example embed_endpoint_set('local', 'http://127.0.0.1:8080/v1').",
            )
        given = serving.read("endpoint", serving.ENDPOINT, options, '{"total_timeout": 60}')
        bare, from_url = parameters.split_url(url or "")
        addresses.check_url(bare, allow_http=bool(given.get("allow_http")))
        if secret is not None and not credentials.is_name(secret):
            # It may be the key itself: never repeat it.
            raise UserError(
                "secret must be the name of a secret, not its value",
                hint=f"Put the key into a file in {credentials.DIRECTORY} and pass that file's name.",
            )
        given = parameters.merged(given, from_url)
        parameters.check(bare, secret, given)
        number = db.value(SQL.upsert_endpoint, name, bare, secret, json_objects.dumps(given))
        state.create_all()
        state.reset(int(number))
        failures.retry_endpoint(int(number))
        event_log.info("endpoint_set", endpoint=name)  # its breakers are closed now
        _warn_of_secret(Endpoint(name, bare, secret, given))

    as_extension_owner(put)


def _warn_of_secret(endpoint: Endpoint) -> None:
    """Warn when a secret cannot be read; no error, since it may be created later."""
    if found := parameters.problem(endpoint):
        problem, remedy = found
        db.warning(f'endpoint "{endpoint.name}" cannot be used yet: {problem}', hint=remedy.hint)


@sql_entry
def endpoint_problem(name: str) -> dict[str, str | None]:
    """Return why an endpoint's secrets cannot be read, and the remedy; NULLs unless the caller is an admin."""
    role = caller()

    def look() -> tuple[str | None, str | None]:
        row = db.one(SQL.endpoint_settings, name) if pipelines.is_admin(role) else None
        if row is None:
            return None, None
        found = parameters.problem(Endpoint(name, row["url"], row["secret"], json.loads(row["options"])))
        return (found[0], found[1].command) if found else (None, None)

    problem, remedy = as_extension_owner(look, stable=True)
    return {"problem": problem, "remedy": remedy}
