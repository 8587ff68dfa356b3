"""Content-defined boundaries: an edit moves none beyond its neighbourhood."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING
from zlib import crc32

from evergreen.core.lazy import lazy
from evergreen.prepare.sections import Mark

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

# From coarse to fine: paragraphs, lines, sentences, words. Each separator stays with the piece before it.
_BOUNDARIES = tuple(re.compile(p) for p in (r"\n[ \t]*\n\s*", r"\n", r"(?<=[.!?…。！？])\s+", r"\s+"))
_EVEN = 4  # a word of up to so many sizes is cut evenly
_SEEN = 8  # characters that decide whether a longer one is cut before them
# Characters embedded again against those of the paragraphs that changed, and the mean size of a chunk, over 1,809
# revisions of 440 markdown files in seven repositories, chunks of 800 at most (`make bench` prints the like):
#   fixed windows                                              10.02   782
#   packed until full, whatever the headings say                2.03   640
#   cut at headings, then packed until full                     1.43   430
#   … then spread evenly over the section                       1.44   430
#   … then FastCDC over paragraphs: after 300 characters, a
#     cut behind each whose hash says so                        1.30   some 400; no bound to what an edit can move
#   … then halved at the least hash, again and again            1.34   some 400; quadratic where all is alike
#   … then, as here, cut at the hashes that are least within a
#     distance of  0.25 of the size                             1.26   361
#                  0.3                                          1.30   376
#                  0.35                                         1.33   391
#                  0.4                                          1.35   399
#                  0.45: taken, so that chunks are not small    1.37   403
#     0.3, hash of the whole paragraph, not only of its start   1.34   376
_LEAST = 0.45  # of the size: the distance within which a boundary must have the least hash
_SEEN_BY_PACK = 24  # characters after a boundary that decide on it: an edit further on leaves it alone


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


def pack(pieces: Sequence[str], size: int) -> Iterator[str]:
    """Join neighbouring pieces, each of at most ``size`` characters, to chunks of at most ``size``."""
    offsets = [0, *accumulate(map(len, pieces))]
    if offsets[-1] <= size:
        yield "".join(pieces)
        return
    weights = [crc32(piece.lstrip()[:_SEEN_BY_PACK].encode("utf-8", "surrogatepass")) for piece in pieces]
    least = max(1, int(size * _LEAST))
    start = 0
    for end in [*_minima(weights, offsets, least), len(pieces)]:
        for cut in _fitting(weights, offsets, start, end, size, least):
            yield "".join(pieces[start:cut])
            start = cut


def _minima(weights: list[int], offsets: list[int], least: int) -> list[int]:
    """Return the boundaries that weigh less than all others nearer than ``least``; of equal ones the first."""
    last = len(weights)
    lighter = [0] * last  # the nearest boundary before that does not weigh more
    heavier = [last] * last  # the nearest one after that weighs less
    stack: list[int] = []
    for i in range(1, last):
        while stack and weights[stack[-1]] > weights[i]:
            heavier[stack.pop()] = i
        lighter[i] = stack[-1] if stack else 0
        stack.append(i)
    return [
        i
        for i in range(1, last)
        if offsets[i] - offsets[lighter[i]] >= least and offsets[heavier[i]] - offsets[i] >= least
    ]


def _fitting(weights: list[int], offsets: list[int], start: int, end: int, size: int, least: int) -> Iterator[int]:
    """Yield where the pieces from start to end are cut: at the least weights, and always so that each part fits."""
    while offsets[end] - offsets[start] > size:
        # What is left should not be too short either.
        furthest = min(offsets[start] + size, offsets[end] - least)
        cut = best = start + 1
        while offsets[cut + 1] <= furthest:
            cut += 1
            if offsets[best] - offsets[start] < least or weights[cut] <= weights[best]:
                best = cut
        yield best
        start = best
    yield end
