"""Reads os-release and apt's sources; derives a sources entry for another suite."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evergreen_host.errors import EvergreenError

_LIST_LINE = re.compile(
    r"(?P<type>deb|deb-src)\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)"
)
_SIGNED_BY = re.compile(r"signed-by\s*=\s*(\S+)", re.IGNORECASE)
_ARCHIVE_KEYRING = "debian-archive-keyring"
_SUITE_ALIASES = {"stable", "oldstable", "oldoldstable", "testing"}


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources; `signed_by` is kept verbatim, as it may be an embedded key."""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Split deb822 text into stanzas of lower-case field name to value, continuation lines joined by newlines."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t" and name:
            fields[name] += f"\n{line}"
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def parse_deb822(text: str) -> list[Source]:
    """Parse a `.sources` file, without entries that have `Enabled: no`."""
    return [
        Source(
            tuple(stanza.get("types", "").split()),
            tuple(stanza.get("uris", "").split()),
            tuple(stanza.get("suites", "").split()),
            tuple(stanza.get("components", "").split()),
            stanza.get("signed-by", ""),
        )
        for stanza in _stanzas(text)
        if stanza.get("enabled", "yes").lower() not in {"no", "false", "off", "without", "disable", "0"}
    ]


def parse_one_line(text: str) -> list[Source]:
    """Parse a `.list` file: `deb [options] uri suite components`."""
    found: list[Source] = []
    for line in text.splitlines():
        match = _LIST_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            signed = _SIGNED_BY.search(match["options"] or "")
            signed_by = signed[1].replace(",", " ") if signed else ""
            components = tuple(match["components"].split())
            found.append(Source((match["type"],), (match["uri"],), (match["suite"],), components, signed_by))
    return found


def read(apt_dir: Path = Path("/etc/apt")) -> list[Source]:
    """Return every enabled entry of the system's configuration."""
    found: list[Source] = []
    for path in [apt_dir / "sources.list", *sorted((apt_dir / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            found += parse_one_line(path.read_text("utf-8"))
        elif path.suffix == ".sources" and path.is_file():
            found += parse_deb822(path.read_text("utf-8"))
    return found


def _rank(source: Source, codename: str) -> tuple[bool, bool]:
    """Rank candidates: Debian's archive key first, then the codename as suite."""
    return (_ARCHIVE_KEYRING not in source.signed_by, codename not in source.suites)


def suite_entry(sources: Iterable[Source], codename: str, suite: str, kind: str = "deb-src") -> str:
    """Return a deb822 entry for `suite` in the archive that has `codename`.

    Archive and signing key are the configured ones. Raises EvergreenError if no entry fits.
    """
    candidates = [
        source
        for source in sources
        if "main" in source.components and ({codename} | _SUITE_ALIASES) & set(source.suites) and source.uris
    ]
    if not candidates:
        raise EvergreenError(
            f"no entry of apt's sources has {codename} main, so the archive of {suite} is unknown",
            "install pgvector manually, then run: evergreen setup",
        )
    chosen = min(candidates, key=lambda source: _rank(source, codename))
    lines = [f"Types: {kind}", f"URIs: {chosen.uris[0]}", f"Suites: {suite}", "Components: main"]
    if chosen.signed_by:
        lines.append(f"Signed-By: {chosen.signed_by}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class OsRelease:
    """Content of /etc/os-release; `ids` are ID and ID_LIKE, e.g. ('ubuntu', 'debian')."""

    name: str
    ids: tuple[str, ...]
    codename: str

    @property
    def has_apt(self) -> bool:
        """Whether it is Debian or a derivative of it."""
        return bool({"debian", "ubuntu"} & set(self.ids))

    @property
    def is_debian(self) -> bool:
        """Whether it is Debian itself, where sources of other Debian suites work."""
        return self.ids[:1] == ("debian",)


def parse_os_release(text: str) -> OsRelease:
    """Parse the format of os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    fields = {name: " ".join(shlex.split(value)) for name, _, value in pairs}
    ids = (fields.get("ID", ""), *fields.get("ID_LIKE", "").split())
    return OsRelease(fields.get("PRETTY_NAME", "this system"), ids, fields.get("VERSION_CODENAME", ""))


def this_system() -> OsRelease:
    """Return the OsRelease of this machine."""
    path = Path("/etc/os-release")
    return parse_os_release(path.read_text("utf-8") if path.exists() else "")
