"""Templates: ``$title\\n\\n$body`` and ``${Odd Name}`` to literals and columns, and back."""

import re
from dataclasses import dataclass

from evergreen.errors import UserError

_TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>(?:[^}]|\}\})*)\}|(?P<plain>[^\W\d]\w*)|(?P<wrong>))")


@dataclass(frozen=True)
class Literal:
    """Text that stands in every row's prepared text."""

    text: str


@dataclass(frozen=True)
class Placeholder:
    """A column whose value stands here; NULL becomes nothing."""

    column: str


Part = Literal | Placeholder


def parse(template: str) -> tuple[Part, ...]:
    """Split a template into literals and placeholders; raises UserError 22023 where it can only be a mistake."""
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
            braced = token["braced"]
            parts.append(Placeholder(braced.replace("}}", "}") if braced is not None else token["plain"]))
        end = token.end()
    _literal(parts, template[end:])
    if any(isinstance(part, Literal) and r"\n" in part.text for part in parts):
        raise UserError(
            "the template has a backslash followed by n, not a line break",
            hint=r"Write it as an escape string: template => E'$title\n\n$body'.",
        )
    return tuple(parts)


def _literal(parts: list[Part], text: str) -> None:
    if text and parts and isinstance(parts[-1], Literal):
        parts[-1] = Literal(parts[-1].text + text)
    elif text:
        parts.append(Literal(text))


def columns(parts: tuple[Part, ...]) -> tuple[str, ...]:
    """Return the columns that a template names, each once, in order."""
    return tuple(dict.fromkeys(part.column for part in parts if isinstance(part, Placeholder)))


def rename(template: str, names: dict[str, str]) -> str:
    """Rewrite a template after its columns were renamed."""
    return "".join(
        part.text.replace("$", "$$") if isinstance(part, Literal) else _written(names.get(part.column, part.column))
        for part in parse(template)
    )


def _written(column: str) -> str:
    # Always braced: a plain $name would swallow a letter that follows it.
    return "${" + column.replace("}", "}}") + "}"
