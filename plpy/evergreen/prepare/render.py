"""Render: the text of a row, and what its template puts around each chunk, to the texts that are embedded."""

from collections.abc import Sequence

from evergreen.errors import RejectedError
from evergreen.prepare.chunk import Chunker
from evergreen.wording import number

MOST_CHARACTERS = 32 * 1024 * 1024  # of text in memory at a time


def texts(split: Chunker, text: str | None, frame: Sequence[str] | None) -> list[str]:
    """Cut a text and put each chunk into its frame; a text that is blank has no chunk.

    Raises RejectedError where the frame, which each chunk repeats, would fill the memory.
    """
    chunks = split(text) if text and not text.isspace() else []
    if frame is None:
        return chunks
    length = sum(map(len, frame)) * len(chunks) + (len(frame) - 1) * sum(map(len, chunks))
    if length > max(MOST_CHARACTERS, 2 * len(text or "")):
        raise RejectedError(
            f"the template would make {number(length)} characters of the {number(len(chunks))} chunks of a text of"
            f" {number(len(text or ''))}: each repeats all that stands around $chunk"
        )
    return [chunk.join(frame) for chunk in chunks]
