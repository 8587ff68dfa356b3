"""Which Debian this is, apt's sources, and the entry of another suite's packages derived from them."""

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
    """One entry of apt's sources; `signed_by` is kept word for word, it may be an embedded key."""

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
    """Read a `.sources` file; entries with `Enabled: no` are left out."""
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
    """Read a `.list` file: `deb [options] uri suite components`."""
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
    """Return every enabled entry of the machine's configuration."""
    found: list[Source] = []
    for path in [apt_dir / "sources.list", *sorted((apt_dir / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            found += parse_one_line(path.read_text("utf-8"))
        elif path.suffix == ".sources" and path.is_file():
            found += parse_deb822(path.read_text("utf-8"))
    return found


def _rank(source: Source, codename: str) -> tuple[bool, bool]:
    """Order candidates: the archive's own signing key first, then the release's own name."""
    return (_ARCHIVE_KEYRING not in source.signed_by, codename not in source.suites)


def suite_entry(sources: Iterable[Source], codename: str, suite: str, kind: str = "deb-src") -> str:
    """Return a deb822 entry for the packages of `suite`, of that kind, from where `codename` comes from.

    Archive and signing key stay as the machine has them. Raises EvergreenError if no entry fits.
    """
    candidates = [
        source
        for source in sources
        if "main" in source.components and ({codename} | _SUITE_ALIASES) & set(source.suites) and source.uris
    ]
    if not candidates:
        raise EvergreenError(
            f"apt's sources name no archive of {codename} main to take packages of {suite} from",
            "install pgvector by hand, then run: evergreen setup",
        )
    chosen = min(candidates, key=lambda source: _rank(source, codename))
    lines = [f"Types: {kind}", f"URIs: {chosen.uris[0]}", f"Suites: {suite}", "Components: main"]
    if chosen.signed_by:
        lines.append(f"Signed-By: {chosen.signed_by}")
    return "\n".join(lines) + "\n"


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


def parse_os_release(text: str) -> OsRelease:
    """Read the format of os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    fields = {name: " ".join(shlex.split(value)) for name, _, value in pairs}
    ids = (fields.get("ID", ""), *fields.get("ID_LIKE", "").split())
    return OsRelease(fields.get("PRETTY_NAME", "this system"), ids, fields.get("VERSION_CODENAME", ""))


def this_system() -> OsRelease:
    """Return this machine's."""
    path = Path("/etc/os-release")
    return parse_os_release(path.read_text("utf-8") if path.exists() else "")
