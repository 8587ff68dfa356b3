"""Reads the documentation strings of Python's own library: real, free texts that are there wherever we run."""

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from evergreen_host.demo.documents import Document

_ENOUGH_TEXT = 80  # characters
_LEFT_OUT = {
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
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(node: _Documented, name: str) -> Iterator[Document]:
    """Walk a module's public classes and functions."""
    text = ast.get_docstring(node)
    if text and len(text) >= _ENOUGH_TEXT:
        title, _, body = inspect.cleandoc(text).partition("\n")
        yield Document(name, f"{name}: {title}", body.strip())
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            yield from _documented(child, f"{name}.{child.name}")


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not _LEFT_OUT & set(parts) and not any(part.startswith("_") for part in name.split(".")):
            yield name, path


def documents() -> list[Document]:
    """Return the documentation of every public module, class and function, without importing any."""
    found: dict[str, Document] = {}
    for name, path in _modules(Path(sysconfig.get_path("stdlib"))):
        tree = ast.parse(path.read_bytes())
        found |= {document.name: document for document in _documented(tree, name)}
    return list(found.values())
