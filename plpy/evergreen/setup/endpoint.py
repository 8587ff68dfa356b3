"""embed_endpoint_set: where models are served."""

import json

from evergreen import db, journal
from evergreen.catalog import counters
from evergreen.errors import UserError
from evergreen.gate import elevated, entry
from evergreen.model import addresses, secrets
from evergreen.setup import serving
from evergreen.setup.model import SQL

_LONGEST_NAME = 200


@entry
def embed_endpoint_set(name: str | None, url: str | None, secret: str | None, options: str | None) -> None:
    """Make or change an endpoint; raises 42602, 22023."""

    def put() -> None:
        if not name or len(name) > _LONGEST_NAME:
            raise UserError(
                f"an endpoint needs a name of 1 to {_LONGEST_NAME} characters",
                "42602",
                hint="For example embed_endpoint_set('local', 'http://127.0.0.1:8080/v1').",
            )
        given = serving.read("endpoint", serving.ENDPOINT, options, '{"total_timeout": 60}')
        addresses.check_url(url or "", allow_http=bool(given.get("allow_http")))
        if secret is not None and not secrets.is_name(secret):
            # It may be the key itself: never repeat it.
            raise UserError(
                "secret must be the name of a secret, not its value",
                hint=f"Put the key into a file in {secrets.DIRECTORY} and pass that file's name.",
            )
        number = db.value(SQL.put_endpoint, name, url, secret, json.dumps(given))
        counters.create_all()
        counters.reset(int(number))
        db.run(SQL.wake, int(number))
        journal.note("endpoint_set", endpoint=name)  # which closed its breakers

    elevated(put)
