"""What a worker has to say: one line an event, for people or as JSON."""

import json
import shlex
import sys
import threading
from datetime import UTC, datetime


class Log:
    """Writes lines to standard output; may be used by several threads at once."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()

    def write(self, event: str, *, level: str = "info", **details: str | int | float | None) -> None:
        """Write one line: when, how bad, what, and the details that there are."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in details.items() if value is not None}
        if self._as_json:
            line = json.dumps({"at": now, "level": level, "event": event, **fields}, ensure_ascii=False)
        else:
            parts = (f"{name}={_format_value(value)}" for name, value in fields.items())
            line = " ".join([now, level, event, *parts])
        with self._lock:
            print(line, file=sys.stdout, flush=True)


def _format_value(value: str | int | float) -> str:
    return shlex.quote(" ".join(value.split())) if isinstance(value, str) else str(value)
