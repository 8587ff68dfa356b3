"""embed_chunk_text: builds a chunker's definition and refuses one that makes no sense."""

import json

from evergreen.gate import entry
from evergreen.prepare import chunk


@entry
def embed_chunk_text(size: int | None, overlap: int | None) -> str:
    """Return the definition as JSON; raises 22023."""
    chunk.check_sizes(size, overlap)
    return json.dumps({"chunker": "text", "size": size, "overlap": overlap})
