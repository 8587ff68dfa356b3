"""Reads the code without running it: the messages and log events that it can produce."""

import ast
from collections.abc import Iterator
from pathlib import Path

PLACEHOLDER = "…"
_QUOTING = {"quoted"}


def calls(folder: Path) -> Iterator[tuple[Path, ast.Call]]:
    """Yield every call in a folder's Python files, in their order."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node


def name_of(function: ast.expr) -> str:
    """Return what is called, without the object before it."""
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def text_of(node: ast.expr | None) -> str | None:
    """Return a text with an ellipsis for each value in it; None where it is not written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return left + right if left is not None and right is not None else None
    return None


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    value = part.value if isinstance(part, ast.FormattedValue) else part
    quoted = isinstance(value, ast.Call) and name_of(value.func) in _QUOTING
    return f'"{PLACEHOLDER}"' if quoted else PLACEHOLDER


def argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """Return an argument of a call, given by its place or its name."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[place] if len(call.args) > place else None
