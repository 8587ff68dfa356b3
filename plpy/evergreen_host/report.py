"""Says what a command does, one line a step, and remembers it for --json."""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One thing that was looked at or done: `state` is 'present', 'done' or 'missing'."""

    name: str
    state: str
    detail: str


class Report:
    """Collects steps; prints each as it happens unless the output is to be JSON."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.steps: list[Step] = []

    def _line(self, mark: str, text: str) -> None:
        if not self.as_json:
            print(f"{mark} {text}", flush=True)

    def busy(self, text: str) -> None:
        """Announce something that takes a while."""
        self._line("..", text)

    def present(self, name: str, detail: str = "") -> None:
        """Record what was there before."""
        self.steps.append(Step(name, "present", detail))
        self._line("ok", f"{name} {detail} already there".replace("  ", " "))

    def done(self, name: str, detail: str = "") -> None:
        """Record what this run has done."""
        self.steps.append(Step(name, "done", detail))
        self._line("ok", f"{name} {detail}".rstrip())

    def missing(self, name: str, detail: str = "") -> None:
        """Record what is not there and could not be had."""
        self.steps.append(Step(name, "missing", detail))
        self._line("--", f"{name} {detail}".rstrip())

    def next(self, text: str) -> None:
        """Say what comes next."""
        self._line("->", text)

    def close(self, **result: Any) -> None:
        """Print the whole run as one JSON object, if asked for."""
        if self.as_json:
            json.dump({**result, "steps": [asdict(step) for step in self.steps]}, sys.stdout, indent=2)
            print()
