"""Reference of options and settings: names, defaults, values and meanings, as the server's code checks them."""

import json
import sys
from types import ModuleType
from typing import Any

from tools.reference.markdown import code, page, sentence, table

INTRODUCTION = """\
Every option of pipelines, generations, models and endpoints, and every setting of the database, with its default and the values
that it takes. Options are JSON: `null` resets one to its default, and an unknown name is an error."""
PIPELINE = """\
For `embed_create(…, options => '{…}')` and `embed_alter(pipeline, '{…}')`."""
GENERATION = """\
For `embed_create` and `embed_build`. They belong to a generation and change with a new one."""
MODEL = """\
For `embed_model_add(…, options => '{…}')`. `embed_model_set` changes those that are no part of a vector's identity; the others
need a model of another name."""
ENDPOINT = """\
For `embed_endpoint_set(…, options => '{…}')`."""
SETTINGS = """\
For `embed_setting(name, value)`, as `embed_admin`. They hold for the whole database."""


class _NoServer(ModuleType):
    """Stands for plpy where the server's code is only read; a call of it is an error."""

    Error = type("Error", (Exception,), {})
    Fatal = type("Fatal", (Error,), {})
    SPIError = type("SPIError", (Error,), {})


def _shown(value: Any) -> str:
    return code(json.dumps(value)) if value is not None else code("null")


def _checked(wrong: Any) -> str:
    return str(wrong(object())).removeprefix("must be ").removeprefix("a ").removeprefix("an ")


def render() -> str:
    """Return the page."""
    sys.modules.setdefault("plpy", _NoServer("plpy"))
    from evergreen.catalog import options  # noqa: PLC0415
    from evergreen.embedding.providers import options as serving  # noqa: PLC0415

    def checked(known: Any) -> str:
        rows = [
            (code(name), _shown(one.default), _checked(one.wrong), sentence(one.about)) for name, one in known.items()
        ]
        return table(("option", "default", "value", "meaning"), rows)

    def served(known: Any) -> str:
        rows = [(code(name), one.words, sentence(one.about)) for name, one in known.items()]
        return table(("option", "value", "meaning"), rows)

    settings = [(code(name), code(one.default), sentence(one.about)) for name, one in options.SETTINGS.items()]
    return page(
        "Options and settings", INTRODUCTION,
        "## Pipeline", PIPELINE, checked(options.PIPELINE),
        "## Generation", GENERATION, checked(options.GENERATION),
        "## Model", MODEL, served(serving.MODEL),
        "## Endpoint", ENDPOINT, served(serving.ENDPOINT),
        "## Settings of the database", SETTINGS, table(("setting", "default", "meaning"), settings),
    )  # fmt: skip
