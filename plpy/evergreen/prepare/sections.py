"""Sections: the text under one heading, with the places where its blocks start. No chunk reaches beyond a section."""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from evergreen.core.frozen import frozen

#: Where a block starts in a text, and how deep it lies in others: (offset, depth from 0 on).
Mark = tuple[int, int]


@frozen
class Part:
    """A heading (or none: level 0) and what stands below it up to the next."""

    level: int
    title: str
    text: str
    marks: tuple[Mark, ...]
    is_bare: bool  # nothing but the heading


@frozen
class Section:
    """A text that is cut by itself: ``path`` are the headings it stands under, ``above`` those of them not in it."""

    text: str
    marks: tuple[Mark, ...] = ()
    path: tuple[str, ...] = ()
    above: tuple[str, ...] = ()


def sections(parts: Iterable[Part]) -> Iterator[Section]:
    """Put headings that have no text of their own before the part that follows, which says what they are about."""
    stack: list[tuple[int, str]] = []
    held: list[Part] = []
    above: tuple[str, ...] = ()
    for part in parts:
        while stack and part.level and stack[-1][0] >= part.level:
            stack.pop()
        before = tuple(title for _, title in stack)
        above = _shared(above, before) if held else before
        if part.level:
            stack.append((part.level, part.title))
        held.append(part)
        if not part.is_bare:
            yield _joined(held, tuple(title for _, title in stack), above)
            held = []
    if held:
        yield _joined(held, tuple(title for _, title in stack), above)


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(title for title, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _joined(parts: list[Part], path: tuple[str, ...], above: tuple[str, ...]) -> Section:
    if len(parts) == 1:
        return Section(parts[0].text, parts[0].marks, path, above)
    marks: list[Mark] = []
    start = 0
    for part in parts:
        marks += [(start + offset, depth) for offset, depth in part.marks]
        start += len(part.text)
    return Section("".join(part.text for part in parts), tuple(marks), path, above)
