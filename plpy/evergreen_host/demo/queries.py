"""Loads the named queries of a .sql file: `-- name --`, lines of description, the statement."""

import re
from pathlib import Path

_NAME = re.compile(r"^-- (\w+) --\n", re.MULTILINE)
_DESCRIPTION = re.compile(r"^(?:--.*\n)*")


def load(path: Path) -> dict[str, str]:
    """Return name to statement, without descriptions and the final semicolon."""
    _, *parts = _NAME.split(path.read_text("utf-8"))
    statements = (_DESCRIPTION.sub("", text, count=1).strip().removesuffix(";") for text in parts[1::2])
    return dict(zip(parts[::2], statements, strict=True))
