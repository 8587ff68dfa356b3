"""Output of commands: progress as lines or as one JSON object, and the format of numbers and durations."""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Step:
    """One step; `state` is 'present', 'done' or 'missing'."""

    name: str
    state: str
    detail: str


class Report:
    """Collects steps, and prints each as it happens unless the output is JSON."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.steps: list[Step] = []

    def _line(self, mark: str, text: str) -> None:
        if not self.as_json:
            print(f"{mark} {text}", flush=True)

    def busy(self, text: str) -> None:
        """Announce a step that takes a while."""
        self._line("..", text)

    def present(self, name: str, detail: str = "") -> None:
        """Record something that exists already."""
        self.steps.append(Step(name, "present", detail))
        self._line("ok", f"{name} {detail} already there".replace("  ", " "))

    def done(self, name: str, detail: str = "") -> None:
        """Record a completed step."""
        self.steps.append(Step(name, "done", detail))
        self._line("ok", f"{name} {detail}".rstrip())

    def missing(self, name: str, detail: str = "") -> None:
        """Record something that is missing."""
        self.steps.append(Step(name, "missing", detail))
        self._line("--", f"{name} {detail}".rstrip())

    def next(self, text: str) -> None:
        """Print the next step for the user."""
        self._line("->", text)

    def close(self, **result: Any) -> None:
        """With --json, print the whole run as one JSON object."""
        if self.as_json:
            json.dump({**result, "steps": [asdict(step) for step in self.steps]}, sys.stdout, indent=2)
            print()


def format_number(value: float | None) -> str:
    """Return a number with grouped digits: 3,012; empty for None."""
    return "" if value is None else f"{value:,.0f}"


def pluralize(value: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: 1 row, 3,012 rows."""
    return f"{format_number(value)} {singular if value == 1 else plural or f'{singular}s'}"


def format_duration(value: timedelta | None) -> str:
    """Return an interval in its largest unit: 35 ms, 2.5 s, 3 min, 4 h, 2 d; empty for None."""
    if value is None:
        return ""
    seconds = value.total_seconds()
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.0f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} d"
