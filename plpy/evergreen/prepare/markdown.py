"""Markdown to sections: slices of its lines, so that no text is lost or rewritten."""

import re
from collections.abc import Iterator
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from evergreen.prepare.sections import Mark, Part

_PARSER = MarkdownIt("commonmark").enable("table").disable("reference")
_READ = 2000  # characters of a line, from its start: they say what block it belongs to
_ITEM = r"(?:[-+*]|\d{1,9}[.)])"
# Quotes and lists deeper than the fourth on one line are text: each would cost as much as the whole again.
_DEEPER = re.compile(rf"\A((?:[ \t]*(?:>|{_ITEM}(?=[ \t]))){{4}})[ \t]*(?:>|{_ITEM}[ \t]).*")
_SHORT = 8  # characters in which nothing can be deeper
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?:[^\r\n]*\S[^\r\n]*\r?\n)*?---[ \t]*(?=\r|\n|\Z)")

_PARSER.core.ruler.enableOnly(["normalize", "block"])


def parts(text: str) -> Iterator[Part]:
    """Yield the parts between the headings of a markdown text; together they are the text."""
    offsets = [line.start() for line in _LINE.finditer(text)]
    offsets.append(len(text))
    lines = [_read(text[start : min(end, start + _READ)]) for start, end in pairwise(offsets)]
    tokens = _PARSER.parse("\n".join(_without_front_matter(text, lines)))
    cuts = [0, *(i for i, token in enumerate(tokens) if token.type == "heading_open" and token.level == 0), len(tokens)]
    for start, end in pairwise(cuts):
        part = _part(text, offsets, tokens, start, end)
        if part.text:
            yield part


def _read(line: str) -> str:
    line = line.rstrip("\r\n")
    return _DEEPER.sub(r"\1 x", line) if len(line) > _SHORT else line


def _without_front_matter(text: str, lines: list[str]) -> list[str]:
    """Hide the YAML before a text from the parser, which would take its last line for a heading."""
    found = _FRONT_MATTER.match(text)
    hidden = len(_LINE.findall(found[0])) - 1 if found else 0
    return ["x"] * hidden + lines[hidden:]


def _part(text: str, offsets: list[int], tokens: list[Token], start: int, end: int) -> Part:
    """Make the part that begins with the heading at ``start``, unless that is what stands before the first heading."""
    has_heading = start < end and tokens[start].type == "heading_open" and tokens[start].level == 0
    begin = offsets[_line(tokens[start])] if has_heading else 0
    stop = offsets[_line(tokens[end])] if end < len(tokens) else len(text)
    marks: list[Mark] = []
    for token in tokens[start:end]:
        if token.map and token.nesting >= 0 and token.type != "inline":
            marks.append((offsets[token.map[0]] - begin, token.level))
    title = " ".join(tokens[start + 1].content.split()) if has_heading else ""
    level = int(tokens[start].tag[1:]) if has_heading else 0
    is_bare = sum(depth == 0 for _, depth in marks) == 1 and has_heading
    return Part(level, title, text[begin:stop], tuple(marks), is_bare)


def _line(token: Token) -> int:
    assert token.map is not None
    return token.map[0]
