"""The log of a command: one line per event, in logfmt or as JSON."""

import json
import re
import sys
import threading
from datetime import UTC, datetime

_UNQUOTED = re.compile(r"[\w.:/+-]+", re.ASCII)


class Log:
    """Writes events to standard output; safe to use from several threads."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()

    def write(self, event: str, *, level: str = "info", **details: str | int | float | None) -> None:
        """Write one line: time, level, event, and the details that are not None."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        given = {"at": now, "level": level, "event": event, **details}
        fields = {name: value for name, value in given.items() if value is not None}
        if self._as_json:
            line = json.dumps(fields, ensure_ascii=False)
        else:
            line = " ".join(f"{name}={format_value(value)}" for name, value in fields.items())
        with self._lock:
            print(line, file=sys.stdout, flush=True)


def format_value(value: str | int | float) -> str:
    """Return a value in logfmt; text with other characters than those of names, paths and times is quoted."""
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return value if _UNQUOTED.fullmatch(value) else json.dumps(value, ensure_ascii=False)
