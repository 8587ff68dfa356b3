"""embed_model_set: what is not part of a vector's identity can be set while pipelines use the model."""

import json
from typing import Any

from evergreen import db, journal
from evergreen.catalog import counters, models, objects
from evergreen.errors import UserError
from evergreen.gate import elevated, entry
from evergreen.model.spec import Model
from evergreen.setup import serving
from evergreen.setup.model import SQL

_SETTABLE = sorted(serving.MODEL.keys() - serving.IDENTITY)
#: Arguments of embed_model_add, which somebody may take for options.
_ARGUMENTS = ("provider", "dimensions", "remote_name", "endpoint", "name")
#: Of a built-in model, which costs nothing and has no server.
_BUILT_IN = ("inputs",)


@entry
def embed_model_set(name: str | None, options: str | None) -> str:
    """Merge options into a model's and return them; null resets one. Raises 42704, 22023, 55000."""

    def put() -> str:
        if name is None:
            raise UserError("model NULL does not exist", "42704", hint="Pass the name of a model.")
        held = db.one(SQL.hold, name)
        model = models.by_name(name)
        assert held is not None  # or it would not have been found
        given = objects.parse(options, '{"price": 0.02}')
        merged = dict(model.options)
        for option, value in given.items():
            _check(model, option, value, is_built_in=held["built_in"])
            merged.pop(option, None)
            if value is not None:
                merged[option] = value
        if merged != model.options:
            _put(model, merged)
            if held["built_in"]:
                db.notice(f'options of "{name}" are not part of a dump, as it is built in: set them after a restore')
        return json.dumps(merged)

    return elevated(put)


def _put(model: Model, options: dict[str, Any]) -> None:
    if "price" in model.options and "price" not in options:
        _check_budgets(model)
    db.run(SQL.set_options, model.id, json.dumps(options))
    counters.reset_model(model.id)
    db.run(SQL.wake_model, model.id)
    journal.note("model_set", model=model.name)


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
    if value is not None:
        serving.check("model", serving.MODEL, option, value)


def _check_budgets(model: Model) -> None:
    """Without a price daily_cost would limit nothing."""
    names = [row["name"] for row in db.rows(SQL.with_budget, model.id)]
    if names:
        raise UserError(
            f'the price of model "{model.name}" is needed by option "daily_cost" of pipeline {", ".join(names)}',
            "55000",
            hint=f"SELECT embed_alter({db.literal(names[0])}, '{{\"daily_cost\": null}}');",
        )
