"""Revisions of markdown files, from git repositories: as EVERGREEN_HISTORIES names them, else those here."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.fixtures.paths import PROJECT

_MOST = 300  # revisions of a repository, spread over its history


class Revision(NamedTuple):
    """A file before and after a commit."""

    before: str
    after: str


def repositories() -> list[Path]:
    """Git directories or work trees, ``os.pathsep`` between them in the variable."""
    if named := os.environ.get("EVERGREEN_HISTORIES"):
        return [Path(one) for one in named.split(os.pathsep)]
    home = sorted(path.parent for path in Path.home().glob("*/.git"))
    return [PROJECT, *home]


def revisions(repository: Path) -> list[Revision]:
    """What commits changed in markdown files, merges left out."""
    log = ["log", "--raw", "--no-renames", "--no-abbrev", "--no-merges", "--diff-filter=M", "--format=", "--", "*.md"]
    changes = [line.split()[2:4] for line in _git(repository, log).decode(errors="replace").splitlines() if line]
    step = max(1, len(changes) / _MOST)
    changes = [changes[int(number * step)] for number in range(int(len(changes) / step))]
    texts = _texts(repository, sorted({blob for pair in changes for blob in pair}))
    return [Revision(texts[old], texts[new]) for old, new in changes if old in texts and new in texts]


def _texts(repository: Path, blobs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    data = _git(repository, ["cat-file", "--batch"], "".join(f"{blob}\n" for blob in blobs).encode())
    position = 0
    while position < len(data):
        end = data.index(b"\n", position)
        name, kind, *size = data[position:end].split()
        position = end + 1
        if kind != b"missing":
            found[name.decode()] = data[position : position + int(size[0])].decode(errors="replace")
            position += int(size[0]) + 1
    return found


def _git(repository: Path, arguments: list[str], given: bytes | None = None) -> bytes:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout
