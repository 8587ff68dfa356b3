"""Chunkers: a prepared text to the texts that are embedded. Deterministic, linear; only windows.py exceeds a size."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from evergreen.catalog import json_objects
from evergreen.core.errors import UserError
from evergreen.core.text import quoted
from evergreen.db.privileges import sql_entry
from evergreen.prepare import windows
from evergreen.prepare.boundaries import pack, pieces
from evergreen.prepare.sections import Section, sections

Chunker = Callable[[str], list[str]]
MAX_SIZE = 1_000_000
_MOST_SEPARATORS = 32  # each may be looked for in the whole text
_LONGEST_SEPARATOR = 100
_CONTEXT = 4  # the headings before a chunk take at most this part of its size


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
            return partial(split_text, size=size, overlap=overlap)
        case {"chunker": "markdown" | "html" as kind, "size": int(size), "context": bool(context), **rest} if (
            not rest and type(size) is not bool
        ):
            check_sizes(size, 0)
            return partial(split_markdown if kind == "markdown" else split_html, size=size, context=context)
        case {"chunker": "recursive" | "separator"}:
            return _windows(definition)
        case _:
            raise _not_a_chunker(definition)


def _windows(definition: dict[str, Any]) -> Chunker:
    match definition:
        case {"chunker": "recursive", "size": int(size), "overlap": int(overlap), "separators": separators, **rest}:
            split: Chunker = partial(windows.split_recursive, size=size, overlap=overlap, separators=separators)
        case {"chunker": "separator", "size": int(size), "overlap": int(overlap), "separator": one, **rest}:
            separators = [one]
            split = partial(windows.split_at, size=size, overlap=overlap, separator=one)
        case _:
            raise _not_a_chunker(definition)
    if rest or bool in {type(size), type(overlap)}:
        raise _not_a_chunker(definition)
    check_sizes(size, overlap)
    check_separators(separators)
    return split


def _not_a_chunker(definition: dict[str, Any]) -> UserError:
    return UserError(
        f"not a chunker: {json.dumps(definition)}",
        hint="Use embed_chunk_none(), or embed_chunk_text(), _markdown(), _html(), _recursive() or _separator(), as in"
        " chunker => embed_chunk_markdown(size => 800).",
    )


def check_separators(separators: Any) -> None:
    """Raise UserError 22023 for invalid separators; "" cuts anywhere."""
    if not isinstance(separators, list) or not 1 <= len(cast("list[object]", separators)) <= _MOST_SEPARATORS:
        raise UserError(
            f"separators must be a list of 1 to {_MOST_SEPARATORS} texts",
            hint=r"For example separators => ARRAY[E'\n\n', E'\n', ' ', ''].",
        )
    for one in cast("list[object]", separators):
        if not isinstance(one, str) or len(one) > _LONGEST_SEPARATOR:
            raise UserError(
                f"a separator must be a text of at most {_LONGEST_SEPARATOR} characters, not {json.dumps(one)[:200]}",
                hint="An empty one cuts between any two characters.",
            )


def check_sizes(size: int | None, overlap: int | None) -> None:
    """Raise UserError 22023 when a chunk size or an overlap makes no sense."""
    if size is None or not 1 <= size <= MAX_SIZE:
        raise UserError(
            f"chunk size must be between 1 and {MAX_SIZE} characters, not {quoted(size)}", hint="800 is the default."
        )
    if overlap is None or not 0 <= overlap <= size // 2:
        raise UserError(
            f"chunk overlap must be between 0 and half the size ({size // 2}), not {quoted(overlap)}",
            hint="0 is the default.",
        )


def whole(text: str) -> list[str]:
    """One chunk a row; a text that is blank has none."""
    return [text] if text and not text.isspace() else []


def split_text(text: str, size: int, overlap: int = 0) -> list[str]:
    """Pack plain text into chunks of at most ``size`` characters, cut at the coarsest boundaries that fit.

    A chunk starts with up to ``overlap`` characters of the one before it, counted in ``size``, so that an edit near the
    end of a chunk is one of the next too.
    """
    room = size - overlap
    bodies = [body for body in pack(list(pieces(text, room)), room) if body.strip()]
    if overlap == 0:
        return [body.strip() for body in bodies]
    starts = ["", *(_tail(body, overlap) for body in bodies[:-1])][: len(bodies)]
    return [(start + body).strip() for start, body in zip(starts, bodies, strict=True)]


def _tail(body: str, length: int) -> str:
    """Return the end of a chunk, from a word's start where there is one."""
    tail = body[-length:]
    space = re.search(r"\s\S", tail)
    return tail[space.start() + 1 :] if space else tail


def split_markdown(text: str, size: int, *, context: bool = False) -> list[str]:
    """Cut markdown at its headings and, where a section is too long, between its blocks; chunks are slices of it.

    ``context``: each chunk starts with the headings it stands under, counted in ``size``.
    """
    from evergreen.prepare import markdown  # noqa: PLC0415 - its parser takes a session 35 ms

    return _split(sections(markdown.parts(text)), size, context=context)


def split_html(text: str, size: int, *, context: bool = False) -> list[str]:
    """Cut the text that is seen of HTML as split_markdown does."""
    from evergreen.prepare import html  # noqa: PLC0415 - its parser takes a session 7 ms

    return _split(sections(html.parts(text)), size, context=context)


def _split(found: Iterator[Section], size: int, *, context: bool) -> list[str]:
    chunks: list[str] = []
    for section in found:
        above, path = (_context(section.above, size), _context(section.path, size)) if context else ("", "")
        room = size - max(len(above), len(path))
        bodies = pack(list(pieces(section.text, room, section.marks)), room)
        trimmed = [trim for body in bodies if (trim := _trimmed(body))]
        chunks += [(path if number else above) + body for number, body in enumerate(trimmed)]
    return chunks


def _context(headings: tuple[str, ...], size: int) -> str:
    """Return the headings as a paragraph, the outermost left out where there is no room for all."""
    room = size // _CONTEXT
    kept: list[str] = []
    for title in reversed(headings):
        if title and (not kept or sum(map(len, kept)) + 3 * len(kept) + len(title) <= room):
            kept.insert(0, title[:room])
        elif kept:
            break
    return " > ".join(kept) + "\n\n" if kept and room else ""


def _trimmed(body: str) -> str:
    """Take away blank lines around a text, not the indentation of its first line."""
    body = body.rstrip()
    blank = body[: len(body) - len(body.lstrip())]
    return body[max(blank.rfind("\n"), blank.rfind("\r")) + 1 :]


@sql_entry
def embed_chunk_text(size: int | None, overlap: int | None) -> str:
    """Return the definition as JSON; raises 22023."""
    check_sizes(size, overlap)
    return json_objects.dumps({"chunker": "text", "size": size, "overlap": overlap})


@sql_entry
def embed_chunk_markdown(size: int | None, context: bool | None) -> str:
    """Return the definition as JSON; raises 22023."""
    return _sections("markdown", size, context)


@sql_entry
def embed_chunk_html(size: int | None, context: bool | None) -> str:
    """Return the definition as JSON; raises 22023."""
    return _sections("html", size, context)


@sql_entry
def embed_chunk_recursive(size: int | None, overlap: int | None, separators: list[Any] | None) -> str:
    """Return the definition as JSON; raises 22023."""
    check_sizes(size, overlap)
    check_separators(separators)
    return json_objects.dumps({"chunker": "recursive", "size": size, "overlap": overlap, "separators": separators})


@sql_entry
def embed_chunk_separator(size: int | None, overlap: int | None, separator: str | None) -> str:
    """Return the definition as JSON; raises 22023."""
    check_sizes(size, overlap)
    check_separators([separator])
    return json_objects.dumps({"chunker": "separator", "size": size, "overlap": overlap, "separator": separator})


def _sections(kind: str, size: int | None, context: bool | None) -> str:
    check_sizes(size, 0)
    return json_objects.dumps({"chunker": kind, "size": size, "context": bool(context)})
