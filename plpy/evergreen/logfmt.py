"""Lines of the server's log that programs read: one event, its details as name=value."""

import json
import re
from datetime import UTC, datetime

_PLAIN = re.compile(r"[\w.:/+-]+", re.ASCII)
_LONGEST = 300
_MICROSECONDS = 1_000_000

Detail = str | int | float | None


def line(event: str, details: dict[str, Detail]) -> str:
    """Return a line in logfmt, without the details that are None."""
    told = {"event": event, **{name: value for name, value in details.items() if value is not None}}
    return "evergreen: " + " ".join(f"{name}={_written(value)}" for name, value in told.items())


def moment(microseconds: int) -> str:
    """Return a time since 1970 as it stands in a line."""
    at = datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(value: str | int | float) -> str:
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
