"""Reads the descriptions of Debian's packages: real, free texts that the machine's own apt knows or can fetch."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from evergreen_host.debian.privateapt import PrivateApt
from evergreen_host.demo.documents import Document
from evergreen_host.errors import CommandError
from evergreen_host.process import run

_APT_HELPER = "/usr/lib/apt/apt-helper"
_INDEXES = ("indextargets", "--format", "$(FILENAME)", "Created-By: Translations", "Language: en")
_ENGLISH_ONLY = {
    "Acquire::Languages": "en",
    "Acquire::Retries": "0",
    "Acquire::http::Timeout": "5",
    "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "false",
}
_ENOUGH_TEXT = 200  # characters
# Packages nobody looks for by what they do: parts of others, and the libraries of one language.
_PART = re.compile(
    r"lib.*|.*-(dev|dbg|dbgsym|data|common|doc|docs|l10n|locales?|perl|plugins?|examples|tests?|udeb|modules?)"
    r"|(node|golang|ruby|python3?|r-cran|r-bioc|php|elpa|haskell|ocaml|fonts|hunspell|aspell|task|linux|gir1.2|vim|xfonts)-.*"
)


def parse(text: str) -> Iterator[Document]:
    """Read a file of translated descriptions, the English ones being the originals."""
    for stanza in text.split("\n\n"):
        name = re.search(r"^Package: (.+)$", stanza, re.MULTILINE)
        description = re.search(r"^Description-en: (.+)\n((?: .*\n?)*)", stanza, re.MULTILINE)
        if name and description:
            yield Document(name[1], f"{name[1]}: {description[1]}", _unfold(description[2]))


def _unfold(description: str) -> str:
    """Undo the control file's layout: one leading blank, ` .` for an empty line, further blanks for lists."""
    paragraphs: list[str] = [""]
    for line in (line[1:] for line in description.splitlines()):
        if line == ".":
            paragraphs.append("")
        elif line.startswith((" ", "*", "-")) or not paragraphs[-1]:
            paragraphs[-1] += ("\n" if paragraphs[-1] else "") + line.strip()
        else:
            paragraphs[-1] += f" {line.strip()}"
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def is_program(document: Document) -> bool:
    """Tell what somebody might look for from the parts and libraries that most packages are."""
    return len(document.body) >= _ENOUGH_TEXT and not _PART.fullmatch(document.name)


def _read(indexes: Iterable[str]) -> list[Document]:
    found: dict[str, Document] = {}
    for index in indexes:
        if Path(index).exists():
            for document in parse(run([_APT_HELPER, "cat-file", index])):
                found.setdefault(document.name, document)
    return [document for document in found.values() if is_program(document)]


def _fetched() -> list[Document]:
    with tempfile.TemporaryDirectory(prefix="evergreen-apt-") as folder:
        apt = PrivateApt.create(Path(folder) / "apt", options=_ENGLISH_ONLY)
        Path(folder).chmod(0o755)
        apt.get("update")
        return _read(apt.get(*_INDEXES).split())


def documents() -> list[Document]:
    """Return the descriptions, from the machine's own lists or else fetched from where it gets its packages.

    Empty where there is no apt or it reaches no archive.
    """
    if not shutil.which("apt-get"):
        return []
    try:
        return _read(run(["apt-get", *_INDEXES]).split()) or _fetched()
    except CommandError:
        return []  # apt said why; the demo has other documents
