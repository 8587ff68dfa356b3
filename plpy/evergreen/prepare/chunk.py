"""Chunkers: a prepared text to the texts that are embedded. Deterministic, linear, never longer than ``size``."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from evergreen.errors import UserError, shown

Chunker = Callable[[str], list[str]]

# From coarse to fine: paragraphs, lines, sentences, words. Each separator stays with the piece before it.
_BOUNDARIES = tuple(re.compile(p) for p in (r"\n[ \t]*\n\s*", r"\n", r"(?<=[.!?…。！？])\s+", r"\s+"))
MAX_SIZE = 1_000_000


def chunker(definition: dict[str, Any]) -> Chunker:
    """Return the function for a stored chunker definition; raises UserError 22023 for one that is not understood."""
    match definition:
        case {"chunker": "none", **rest} if not rest:
            return whole
        case {"chunker": "text", "size": int(size), "overlap": int(overlap), **rest} if not rest and bool not in {
            type(size),
            type(overlap),
        }:
            check_sizes(size, overlap)
            return lambda text: split_text(text, size, overlap)
        case _:
            raise UserError(
                f"not a chunker: {json.dumps(definition)}",
                hint="Use embed_chunk_none() or embed_chunk_text(size => 800, overlap => 0).",
            )


def check_sizes(size: int | None, overlap: int | None) -> None:
    """Raise UserError 22023 when a chunk size or an overlap makes no sense."""
    if size is None or not 1 <= size <= MAX_SIZE:
        raise UserError(
            f"chunk size must be between 1 and {MAX_SIZE} characters, not {shown(size)}", hint="800 is the default."
        )
    if overlap is None or not 0 <= overlap <= size // 2:
        raise UserError(
            f"chunk overlap must be between 0 and half the size ({size // 2}), not {shown(overlap)}",
            hint="0 is the default.",
        )


def whole(text: str) -> list[str]:
    """One chunk a row; a text that is blank has none."""
    return [text] if text and not text.isspace() else []


def split_text(text: str, size: int, overlap: int = 0) -> list[str]:
    """Pack plain text into chunks of at most ``size`` characters, cut at the coarsest boundary that fits.

    A chunk starts with up to ``overlap`` characters of the one before it, counted in ``size``.
    """
    bodies = [body for body in _pack(_pieces(text, size - overlap), size - overlap) if body.strip()]
    if overlap == 0:
        return [body.strip() for body in bodies]
    starts = ["", *(_tail(body, overlap) for body in bodies[:-1])][: len(bodies)]
    return [(start + body).strip() for start, body in zip(starts, bodies, strict=True)]


def _pack(pieces: Iterator[str], size: int) -> Iterator[str]:
    """Join neighbouring pieces while they fit."""
    held: list[str] = []
    length = 0
    for piece in pieces:
        if held and length + len(piece) > size:
            yield "".join(held)
            held, length = [], 0
        held.append(piece)
        length += len(piece)
    if held:
        yield "".join(held)


def _pieces(text: str, size: int, level: int = 0) -> Iterator[str]:
    """Cut text into pieces of at most ``size`` characters, finer only where a coarse piece does not fit."""
    if len(text) <= size:
        yield text
    elif level == len(_BOUNDARIES):
        yield from (text[start : start + size] for start in range(0, len(text), size))
    else:
        start = 0
        for boundary in _BOUNDARIES[level].finditer(text):
            yield from _pieces(text[start : boundary.end()], size, level + 1)
            start = boundary.end()
        if start < len(text):
            yield from _pieces(text[start:], size, level + 1)


def _tail(body: str, length: int) -> str:
    """Return the end of a chunk, from a word's start where there is one."""
    tail = body[-length:]
    space = re.search(r"\s\S", tail)
    return tail[space.start() + 1 :] if space else tail
