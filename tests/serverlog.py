"""Reads the events that the extension wrote to a server's log."""

import json
import re
from dataclasses import dataclass
from itertools import pairwise

from evergreen_host.cluster import Cluster

_LINE = re.compile(r" (?P<level>[A-Z0-9]+):  evergreen: (?P<told>event=.*)$")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True)
class Event:
    """One line of the log: its level, its details by name, and the line that follows."""

    level: str
    details: dict[str, str]
    after: str

    @property
    def name(self) -> str:
        """What happened."""
        return self.details["event"]


class ServerLog:
    """The log from the moment this is made."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = cluster.logfile
        self._start = self._path.stat().st_size

    def text(self) -> str:
        """What was written since."""
        with self._path.open("rb") as file:
            file.seek(self._start)
            return file.read().decode()

    def events(self, name: str | None = None) -> list[Event]:
        """The events since, or those of one name."""
        lines = [*self.text().splitlines(), ""]
        found: list[Event] = []
        for told, after in pairwise(lines):
            if match := _LINE.search(told):
                pairs = {key: json.loads(v) if v.startswith('"') else v for key, v in _PAIR.findall(match["told"])}
                found.append(Event(match["level"], pairs, after))
        return [event for event in found if name in {None, event.name}]

    def one(self, name: str) -> Event:
        """The only event of a name."""
        (found,) = self.events(name)
        return found

    def names(self) -> list[str]:
        """What happened, in order."""
        return [event.name for event in self.events()]
