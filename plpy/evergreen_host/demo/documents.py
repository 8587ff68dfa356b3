"""The demo's documents: descriptions of Debian's packages, and docstrings of Python's standard library."""

import ast
import hashlib
import inspect
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evergreen_host.debian.apt import PrivateApt
from evergreen_host.errors import CommandError
from evergreen_host.process import run


@dataclass(frozen=True)
class Document:
    """One document: `name` identifies it; title and body are embedded."""

    name: str
    title: str
    body: str


def sample(documents: Collection[Document], rows: int, always: Collection[str]) -> list[Document]:
    """Return the same `rows` documents on every machine: those in `always`, then by the hash of the name."""

    def rank(document: Document) -> tuple[bool, str]:
        return (document.name not in always, hashlib.sha256(document.name.encode()).hexdigest())

    return sorted(documents, key=rank)[:rows]


_APT_HELPER = "/usr/lib/apt/apt-helper"
_INDEXES = ("indextargets", "--format", "$(FILENAME)", "Created-By: Translations", "Language: en")
_ENGLISH_ONLY = {
    "Acquire::Languages": "en",
    "Acquire::Retries": "0",
    "Acquire::http::Timeout": "5",
    "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "false",
}
_SHORTEST_DESCRIPTION = 200  # characters
# Packages that no one searches by purpose: parts of others, and libraries of one language.
_NOT_A_PROGRAM = re.compile(
    r"lib.*|.*-(dev|dbg|dbgsym|data|common|doc|docs|l10n|locales?|perl|plugins?|examples|tests?|udeb|modules?)"
    r"|(node|golang|ruby|python3?|r-cran|r-bioc|php|elpa|haskell|ocaml|fonts|hunspell|aspell|task|linux|gir1.2|vim|xfonts)-.*"
)


def parse_descriptions(text: str) -> Iterator[Document]:
    """Parse a file of English package descriptions."""
    for stanza in text.split("\n\n"):
        name = re.search(r"^Package: (.+)$", stanza, re.MULTILINE)
        description = re.search(r"^Description-en: (.+)\n((?: .*\n?)*)", stanza, re.MULTILINE)
        if name and description:
            yield Document(name[1], f"{name[1]}: {description[1]}", _unfold(description[2]))


def _unfold(description: str) -> str:
    """Undo the layout of control files: one leading space, ` .` for an empty line, more spaces for lists."""
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
    """Return whether a package is a program rather than a part or a library."""
    return len(document.body) >= _SHORTEST_DESCRIPTION and not _NOT_A_PROGRAM.fullmatch(document.name)


def _read(indexes: Iterable[str]) -> list[Document]:
    found: dict[str, Document] = {}
    for index in indexes:
        if Path(index).exists():
            for document in parse_descriptions(run([_APT_HELPER, "cat-file", index])):
                found.setdefault(document.name, document)
    return [document for document in found.values() if is_program(document)]


def _fetch() -> list[Document]:
    with tempfile.TemporaryDirectory(prefix="evergreen-apt-") as folder:
        apt = PrivateApt.create(Path(folder) / "apt", options=_ENGLISH_ONLY)
        Path(folder).chmod(0o755)
        apt.get("update")
        return _read(apt.get(*_INDEXES).split())


def debian_packages() -> list[Document]:
    """Return the descriptions, from apt's lists or else downloaded; empty without apt or network."""
    if not shutil.which("apt-get"):
        return []
    try:
        return _read(run(["apt-get", *_INDEXES]).split()) or _fetch()
    except CommandError:
        return []  # the demo falls back to docstrings


_SHORTEST_DOCSTRING = 80  # characters
_EXCLUDED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "distutils",
    "site-packages",
    "dist-packages",
    "turtledemo",
    "__pycache__",
}
_DocumentedNode = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _docstrings(node: _DocumentedNode, name: str) -> Iterator[Document]:
    """Yield the docstrings of a module's public classes and functions."""
    text = ast.get_docstring(node)
    if text and len(text) >= _SHORTEST_DOCSTRING:
        title, _, body = inspect.cleandoc(text).partition("\n")
        yield Document(name, f"{name}: {title}", body.strip())
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            yield from _docstrings(child, f"{name}.{child.name}")


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not _EXCLUDED & set(parts) and not any(part.startswith("_") for part in name.split(".")):
            yield name, path


def python_docstrings() -> list[Document]:
    """Return the docstrings of the standard library's public modules, classes and functions, without imports."""
    found: dict[str, Document] = {}
    for name, path in _modules(Path(sysconfig.get_path("stdlib"))):
        tree = ast.parse(path.read_bytes())
        found |= {document.name: document for document in _docstrings(tree, name)}
    return list(found.values())
