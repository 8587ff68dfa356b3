"""embed_endpoint_set: where models are served."""

import json
from typing import Any

from evergreen import db
from evergreen.catalog import counters, objects
from evergreen.errors import UserError
from evergreen.gate import elevated, entry
from evergreen.model import http, secrets
from evergreen.setup.model import SQL

_SECONDS = frozenset({"connect_timeout", "read_timeout", "total_timeout"})
_MAX_SECONDS = 240  # shorter than a lease


@entry
def embed_endpoint_set(name: str | None, url: str | None, secret: str | None, options: str | None) -> None:
    """Make or change an endpoint; raises 42602, 22023."""

    def put() -> None:
        if not name:
            raise UserError(
                "an endpoint needs a name",
                "42602",
                hint="For example embed_endpoint_set('local', 'http://127.0.0.1:8080/v1').",
            )
        given = _options(options)
        http.check_url(url or "", allow_http=bool(given.get("allow_http")))
        if secret is not None and not secrets.is_name(secret):
            # It may be the key itself: never repeat it.
            raise UserError(
                "secret must be the name of a secret, not its value",
                hint=f"Put the key into a file in {secrets.DIRECTORY} and pass that file's name.",
            )
        number = db.value(SQL.put_endpoint, name, url, secret, json.dumps(given))
        counters.create("endpoint", int(number), counters.ENDPOINT)

    elevated(put)


def _options(options: str | None) -> dict[str, Any]:
    given = objects.parse(options, '{"total_timeout": 60}')
    known = _SECONDS | {"allow_http", "max_in_flight", "requests_per_minute", "tokens_per_minute"}
    for name, value in given.items():
        if name not in known:
            raise UserError(f'there is no endpoint option "{name}"', hint=f"Options are: {', '.join(sorted(known))}.")
        if name == "allow_http":
            good = isinstance(value, bool)
        else:
            limit = _MAX_SECONDS if name in _SECONDS else 64 if name == "max_in_flight" else 1e12
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= limit
        if not good:
            raise UserError(
                f'endpoint option "{name}" cannot be {json.dumps(value)}', hint="Time-outs are seconds, up to 240."
            )
    return given
