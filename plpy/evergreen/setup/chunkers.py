"""embed_chunk_text, _markdown, _html: build a chunker's definition and refuse one that makes no sense."""

import json

from evergreen.gate import entry
from evergreen.prepare import chunk


@entry
def embed_chunk_text(size: int | None, overlap: int | None) -> str:
    """Return the definition as JSON; raises 22023."""
    chunk.check_sizes(size, overlap)
    return json.dumps({"chunker": "text", "size": size, "overlap": overlap})


@entry
def embed_chunk_markdown(size: int | None, context: bool | None) -> str:
    """Return the definition as JSON; raises 22023."""
    return _sections("markdown", size, context)


@entry
def embed_chunk_html(size: int | None, context: bool | None) -> str:
    """Return the definition as JSON; raises 22023."""
    return _sections("html", size, context)


def _sections(kind: str, size: int | None, context: bool | None) -> str:
    chunk.check_sizes(size, 0)
    return json.dumps({"chunker": kind, "size": size, "context": bool(context)})
