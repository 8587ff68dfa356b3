"""Says which operating system this is."""

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OsRelease:
    """What /etc/os-release tells: `ids` are the system and what it is like, e.g. ('ubuntu', 'debian')."""

    name: str
    ids: tuple[str, ...]
    codename: str

    @property
    def has_apt(self) -> bool:
        """Whether Debian's packages and tools are to be expected."""
        return bool({"debian", "ubuntu"} & set(self.ids))

    @property
    def is_debian(self) -> bool:
        """Whether this is Debian itself, so that another Debian suite's sources fit."""
        return self.ids[:1] == ("debian",)


def parse(text: str) -> OsRelease:
    """Read the format of os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    fields = {name: " ".join(shlex.split(value)) for name, _, value in pairs}
    ids = (fields.get("ID", ""), *fields.get("ID_LIKE", "").split())
    return OsRelease(fields.get("PRETTY_NAME", "this system"), ids, fields.get("VERSION_CODENAME", ""))


def this_system() -> OsRelease:
    """Return this machine's."""
    path = Path("/etc/os-release")
    return parse(path.read_text("utf-8") if path.exists() else "")
