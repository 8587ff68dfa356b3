"""Windows: chunks packed until they are full, as LangChain's character splitters do; for texts that were cut so before.

A chunk takes pieces while they fit and goes on from the last of them that fit into the overlap. A piece that no
separator can cut is kept whole, however long it is. Boundaries depend on all that stands before them, so an edit moves
those that follow: `pack` does not.
"""

from collections import deque
from collections.abc import Iterator, Sequence


def split_recursive(text: str, size: int, overlap: int, separators: Sequence[str]) -> list[str]:
    """Cut at the first of the separators that there is, and what is too long at the next; "" cuts anywhere.

    A separator stays with the piece that it begins.
    """
    return [chunk for chunk in _recursive(text, size, overlap, tuple(separators)) if not _is_blank(chunk)]


def split_at(text: str, size: int, overlap: int, separator: str) -> list[str]:
    """Cut at one separator, which stays between the pieces of a chunk and is lost between chunks."""
    if not separator:
        return [chunk for chunk in _anywhere(text, size, overlap) if not _is_blank(chunk)]
    pieces = [piece for piece in text.split(separator) if piece]
    return [chunk for chunk in _windows(pieces, separator, size, overlap) if not _is_blank(chunk)]


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _recursive(text: str, size: int, overlap: int, separators: tuple[str, ...]) -> Iterator[str]:
    place = next((i for i, one in enumerate(separators) if one in text), len(separators) - 1)
    separator, finer = separators[place], separators[place + 1 :]
    if not separator:
        yield from _anywhere(text, size, overlap)
        return
    short: list[str] = []
    for piece in _beginning_with(text, separator):
        if len(piece) < size:
            short.append(piece)
            continue
        yield from _windows(short, "", size, overlap)
        short = []
        if finer:
            yield from _recursive(piece, size, overlap, finer)
        else:
            yield piece
    yield from _windows(short, "", size, overlap)


def _beginning_with(text: str, separator: str) -> Iterator[str]:
    first, *rest = text.split(separator)
    if first:
        yield first
    for part in rest:
        yield separator + part


def _anywhere(text: str, size: int, overlap: int) -> Iterator[str]:
    """Windows of single characters."""
    end = 0
    while end < len(text):
        start = max(0, end - overlap)
        end = min(len(text), start + size)
        yield text[start:end].strip() if size > 1 else text[start:end]


def _windows(pieces: Sequence[str], joiner: str, size: int, overlap: int) -> Iterator[str]:
    window: deque[str] = deque()
    length = 0  # of the window, joiners between its pieces included

    def with_joiner(piece: str) -> int:
        return len(piece) + (len(joiner) if window else 0)

    for piece in pieces:
        if window and length + with_joiner(piece) > size:
            yield joiner.join(window).strip()
            while length > overlap or (length and length + with_joiner(piece) > size):
                length -= len(window.popleft()) + (len(joiner) if window else 0)
        length += with_joiner(piece)
        window.append(piece)
    if window:
        yield joiner.join(window).strip()
