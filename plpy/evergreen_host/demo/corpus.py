"""Chooses the documents of the demo and their questions."""

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
    """Documents, and questions with the name of the document that answers each."""

    what: str
    documents: list[Document]
    questions: dict[str, str]


def questions(name: Name) -> dict[str, str]:
    """Return the questions of a collection: question to expected document."""
    path = Path(__file__).with_name("questions.toml")
    return tomllib.loads(path.read_text("utf-8"))[name]


def load(name: Name, rows: int) -> Corpus | None:
    """Return up to `rows` documents of a collection, or None if it is not available."""
    documents = debian_packages() if name == "debian" else python_docstrings()
    asked = questions(name)
    if not documents:
        return None
    return Corpus(_WHAT[name], sample(documents, rows, asked.values()), asked)


def best(rows: int) -> Corpus:
    """Return Debian's descriptions if available, else Python's docstrings."""
    found = load("debian", rows) or load("python", rows)
    if found is None:
        raise FileNotFoundError("the sources of Python's standard library are missing")
    return found
