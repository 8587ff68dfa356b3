"""Pieces: a text to parts of at most ``size`` characters, cut finer only where a coarse part does not fit."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import numpy as np

from evergreen.prepare.section import Mark

# From coarse to fine: paragraphs, lines, sentences, words. Each separator stays with the piece before it.
_BOUNDARIES = tuple(re.compile(p) for p in (r"\n[ \t]*\n\s*", r"\n", r"(?<=[.!?…。！？])\s+", r"\s+"))
_EVEN = 4  # a word of up to so many sizes is cut evenly
_SEEN = 8  # characters that decide whether a longer one is cut before them


def pieces(text: str, size: int, marks: Sequence[Mark] = ()) -> Iterator[str]:
    """Cut a text where its blocks start, and blocks that are too long at ever finer boundaries.

    Nothing is lost but white space at the end of a piece that would not fit with it.
    """
    deepest = max((depth for _, depth in marks), default=-1)
    levels = [[offset for offset, depth in marks if depth == level] for level in range(deepest + 1)]
    yield from _blocks(text, size, levels, 0, len(text), 0)


def _blocks(text: str, size: int, levels: list[list[int]], start: int, end: int, level: int) -> Iterator[str]:
    if end - start <= size:
        yield text[start:end]
    elif level == len(levels):
        yield from _finer(text[start:end], size)
    else:
        offsets = levels[level]
        for cut in offsets[bisect_right(offsets, start) : bisect_left(offsets, end)]:
            yield from _blocks(text, size, levels, start, cut, level + 1)
            start = cut
        yield from _blocks(text, size, levels, start, end, level + 1)


def _finer(text: str, size: int, level: int = 0) -> Iterator[str]:
    if len(text) <= size or len(text.rstrip()) <= size:
        yield text[:size]
    elif level == len(_BOUNDARIES):
        yield from _characters(text, size)
    else:
        start = 0
        for boundary in _BOUNDARIES[level].finditer(text):
            end = boundary.end()
            if end - start <= size:  # a call for each word would be most of the time
                yield text[start:end]
            else:
                yield from _finer(text[start:end], size, level + 1)
            start = end
        if start < len(text):
            yield from _finer(text[start:], size, level + 1)


def _characters(text: str, size: int) -> Iterator[str]:
    """Cut a word evenly or, where it is long, before characters of least hash, to be in step again after an edit."""
    weight = None if len(text) <= _EVEN * size else _weights(text)
    start = 0
    while len(text) - start > size:
        least = start + (size + 1) // 2
        end = start + size
        if weight is not None:
            end -= int(np.argmin(weight[least : end + 1][::-1]))
        yield text[start:end]
        start = end
    yield text[start:]


def _weights(text: str) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    mixed = np.zeros(len(codes), np.uint32)
    for place in range(min(_SEEN, len(codes))):
        seen = mixed[: len(codes) - place]
        seen *= np.uint32(0x01000193)
        seen ^= codes[place:]
    mixed *= np.uint32(0x9E3779B1)
    return mixed ^ (mixed >> np.uint32(15))
