"""embed_chunk_*: build a chunker's definition, and refuse one that makes no sense."""

from typing import Any

from evergreen.catalog import objects
from evergreen.gate import entry
from evergreen.prepare import chunk


@entry
def embed_chunk_text(size: int | None, overlap: int | None) -> str:
    """Return the definition as JSON; raises 22023."""
    chunk.check_sizes(size, overlap)
    return objects.dumps({"chunker": "text", "size": size, "overlap": overlap})


@entry
def embed_chunk_markdown(size: int | None, context: bool | None) -> str:
    """Return the definition as JSON; raises 22023."""
    return _sections("markdown", size, context)


@entry
def embed_chunk_html(size: int | None, context: bool | None) -> str:
    """Return the definition as JSON; raises 22023."""
    return _sections("html", size, context)


@entry
def embed_chunk_recursive(size: int | None, overlap: int | None, separators: list[Any] | None) -> str:
    """Return the definition as JSON; raises 22023."""
    chunk.check_sizes(size, overlap)
    chunk.check_separators(separators)
    return objects.dumps({"chunker": "recursive", "size": size, "overlap": overlap, "separators": separators})


@entry
def embed_chunk_separator(size: int | None, overlap: int | None, separator: str | None) -> str:
    """Return the definition as JSON; raises 22023."""
    chunk.check_sizes(size, overlap)
    chunk.check_separators([separator])
    return objects.dumps({"chunker": "separator", "size": size, "overlap": overlap, "separator": separator})


def _sections(kind: str, size: int | None, context: bool | None) -> str:
    chunk.check_sizes(size, 0)
    return objects.dumps({"chunker": kind, "size": size, "context": bool(context)})
