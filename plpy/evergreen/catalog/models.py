"""Models by name, with the endpoint that serves them."""

import json
from dataclasses import replace

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Endpoint, Model, Served
from evergreen.core.text import quoted
from evergreen.db.queries import load

SQL = load(__package__)


def _model(row: db.Row) -> Model:
    endpoint = None
    if row["endpoint"] is not None:
        endpoint = Endpoint(
            row["endpoint"], row["url"], row["secret"], json.loads(row["endpoint_options"]), row["endpoint_id"]
        )
    return Model(
        row["id"],
        row["name"],
        row["provider"],
        row["remote_name"],
        row["dimensions"],
        json.loads(row["options"]),
        endpoint,
        row["revision"],
        Served(row["served"], row["epoch"]),
    )


def by_name(name: str) -> Model:
    """Find a model by name; raises UserError 42704."""
    row = db.one(SQL.find_model, name, None)
    if row is None:
        raise UserError(
            f"model {quoted(name)} does not exist",
            "42704",
            hint="Built in are wordllama-256, wordllama-128 and wordllama-64; others are added by embed_model_add().",
        )
    if row["wants_endpoint"] is not None and row["endpoint"] is None:
        wanted = row["wants_endpoint"]
        raise UserError(
            f'endpoint "{wanted}" of model "{name}" is missing from embed.endpoint',
            "55000",
            hint=f"SELECT embed_endpoint_set({db.literal(wanted)}, 'https://...'); makes it again.",
        )
    return _model(row)


def by_id(number: int) -> Model | None:
    """Find a model by id; None where a restore left it out."""
    row = db.one(SQL.find_model, None, number)
    return _model(row) if row is not None else None


def of_generation(number: int, revision: int) -> Model | None:
    """Find the model of a generation whose vectors are of this revision; None where a restore left it out."""
    row = db.one(SQL.find_model, None, number)
    if row is None:
        return None
    found = _model(row)
    pending = found.served.revision == revision and row["marking"] and revision in row["marking"]
    return replace(found, revision=revision, served=replace(found.served, revision=None) if pending else found.served)


def is_in_epoch(model: Model, epoch: int) -> bool:
    """Return whether what is served under a model's name is what it was in an epoch of its watch.

    This transaction has an id from now on, and the epoch is read afterwards. So if a change is committed right after
    that, the worker that marks vectors waits for this transaction.
    """
    db.value(SQL.transaction_id)
    return int(db.value(SQL.served_epoch, model.id)) == epoch


def vector_schema() -> str:
    """Return the quoted schema of pgvector's type, wherever it was moved to."""
    return str(db.value(SQL.vector_type))
