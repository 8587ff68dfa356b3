"""Chooses the demo's documents, and the questions that go with them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evergreen_host.demo.documents import Document, debian_packages, python_docstrings, sample

Name = Literal["debian", "python"]

_WHAT: dict[Name, str] = {
    "debian": "descriptions of Debian packages",
    "python": "documentation strings of Python's standard library",
}


@dataclass(frozen=True)
class Corpus:
    """Documents, the questions to put to them, each with the name of the document that answers it."""

    what: str
    documents: list[Document]
    questions: dict[str, str]


def questions(name: Name) -> dict[str, str]:
    """Return the fixed questions over a collection: question to expected document."""
    path = Path(__file__).with_name("questions.toml")
    return tomllib.loads(path.read_text("utf-8"))[name]


def load(name: Name, rows: int) -> Corpus | None:
    """Return up to `rows` documents of a collection, None if this machine has none of it."""
    documents = debian_packages() if name == "debian" else python_docstrings()
    asked = questions(name)
    if not documents:
        return None
    return Corpus(_WHAT[name], sample(documents, rows, asked.values()), asked)


def best(rows: int) -> Corpus:
    """Return the collection the demo tells its story over: Debian's where it can be had."""
    found = load("debian", rows) or load("python", rows)
    if found is None:
        raise FileNotFoundError("Python's standard library comes without its sources")
    return found
