"""JSON objects that users pass as options."""

import json
from typing import Any, cast

from evergreen.errors import UserError


def parse(text: str | None, example: str) -> dict[str, Any]:
    """Return a JSON object, {} for NULL; raises UserError 22023 for any other JSON."""
    value: object = json.loads(text) if text is not None else {}
    if not isinstance(value, dict):
        raise UserError("options must be a JSON object", hint=f"For example '{example}'.")
    return cast("dict[str, Any]", value)
