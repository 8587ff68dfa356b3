"""Templates: ``$title

$body``, ``${Odd Name}`` and ``$chunk`` to literals, columns and chunks, and back.
"""

import re

from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen

_TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>(?:[^}]|\}\})*)\}|(?P<plain>[^\W\d]\w*)|(?P<wrong>))")


@frozen
class Literal:
    """Text that stands in every row's prepared text."""

    text: str


@frozen
class Placeholder:
    """A column whose value stands here; NULL becomes nothing."""

    column: str


@frozen
class Chunk:
    """Each chunk in turn stands here."""


Part = Literal | Placeholder | Chunk


def parse(template: str, *, framed: bool = False) -> tuple[Part, ...]:
    """Split a template into literals and placeholders; raises UserError 22023 where it can only be a mistake.

    ``framed``: it stands around the chunks of other columns, so ``$chunk`` is the chunk. ``${chunk}`` is a column.
    """
    parts: list[Part] = []
    end = 0
    for token in _TOKEN.finditer(template):
        if token["wrong"] is not None:
            raise UserError(
                f"the template has a lone $ at character {token.start() + 1}",
                hint="Write $column, ${Odd Name} for any other column name, or $$ for a dollar sign.",
            )
        _literal(parts, template[end : token.start()] + ("$" if token["dollar"] else ""))
        if not token["dollar"]:
            parts.append(_placeholder(token, framed=framed))
        end = token.end()
    _literal(parts, template[end:])
    if any(isinstance(part, Literal) and r"\n" in part.text for part in parts):
        raise UserError(
            "the template has a backslash followed by n, not a line break",
            hint=r"Write it as an escape string: template => E'$title\n\n$body'.",
        )
    return tuple(parts)


def _placeholder(token: re.Match[str], *, framed: bool) -> Part:
    if token["braced"] is not None:
        return Placeholder(token["braced"].replace("}}", "}"))
    return Chunk() if framed and token["plain"] == "chunk" else Placeholder(token["plain"])


def _literal(parts: list[Part], text: str) -> None:
    if text and parts and isinstance(parts[-1], Literal):
        parts[-1] = Literal(parts[-1].text + text)
    elif text:
        parts.append(Literal(text))


def columns(parts: tuple[Part, ...]) -> tuple[str, ...]:
    """Return the columns that a template names, each once, in order."""
    return tuple(dict.fromkeys(part.column for part in parts if isinstance(part, Placeholder)))


def wrapper(parts: tuple[Part, ...]) -> tuple[tuple[Literal | Placeholder, ...], ...]:
    """Return what stands before, between and after the chunks."""
    found: list[list[Literal | Placeholder]] = [[]]
    for part in parts:
        if isinstance(part, Chunk):
            found.append([])
        else:
            found[-1].append(part)
    return tuple(map(tuple, found))


def rename(template: str, names: dict[str, str], *, framed: bool = False) -> str:
    """Rewrite a template after its columns were renamed."""
    return "".join(_written(part, names) for part in parse(template, framed=framed))


def _written(part: Part, names: dict[str, str]) -> str:
    if isinstance(part, Literal):
        return part.text.replace("$", "$$")
    if isinstance(part, Chunk):
        return "$chunk"
    # Braced, unlike $chunk, which no letter follows: it has not been renamed. A plain $name would swallow one.
    return "${" + names.get(part.column, part.column).replace("}", "}}") + "}"
