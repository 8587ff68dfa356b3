"""JSON objects that users pass as options."""

import json
from typing import Any, cast

from evergreen.core.errors import UserError


def loads(text: str) -> object:
    """Read JSON that Postgres has accepted; raises UserError 22023 where Python does not go along."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(
            "a JSON value is too deeply nested, or a number in it too long", hint="Pass something simpler."
        ) from None


def parse(text: str | None, example: str) -> dict[str, Any]:
    """Return a JSON object, {} for NULL; raises UserError 22023 for any other JSON."""
    value: object = loads(text) if text is not None else {}
    if not isinstance(value, dict):
        raise UserError("options must be a JSON object", hint=f"For example '{example}'.")
    return cast("dict[str, Any]", value)


def dumps(value: object) -> str:
    """Write JSON for the server, which refuses the escapes of characters that its encoding does not have."""
    return json.dumps(value, ensure_ascii=False)


def scalar_text(value: object) -> str:
    """Return a JSON string, number or boolean as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
