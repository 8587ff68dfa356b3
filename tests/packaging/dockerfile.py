"""Parses the subset of Dockerfile syntax that Dockerfile.postgres uses: arguments, stages, instructions."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_FROM = re.compile(r"(?P<base>\S+)(?:\s+AS\s+(?P<name>\S+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """One instruction: `RUN` and what follows, its lines joined as the builder joins them."""

    name: str
    value: str


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def of(self, name: str) -> list[str]:
        """Return the values of all instructions of one name."""
        return [instruction.value for instruction in self.instructions if instruction.name == name]


@dataclass(frozen=True)
class Dockerfile:
    """`arguments` are those before the first FROM, with their defaults."""

    arguments: Mapping[str, str]
    stages: tuple[Stage, ...]


def expand(value: str, variables: Mapping[str, str]) -> str:
    """Put variables in; one that is not known is an error (a builder would put nothing)."""
    return _VARIABLE.sub(lambda found: variables[found[1] or found[2]], value)


def _instructions(text: str) -> Iterator[Instruction]:
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not (line.strip() or pending):
            continue
        pending += line.removesuffix("\\")
        if not line.endswith("\\"):
            name, _, value = pending.strip().partition(" ")
            yield Instruction(name.upper(), value.strip())
            pending = ""


def parse(text: str) -> Dockerfile:
    """Read the text of a Dockerfile."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            match = _FROM.fullmatch(instruction.value)
            if match is None:
                raise ValueError(f"cannot read FROM {instruction.value}")
            stages.append(Stage(match["base"], match["name"] or "", ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.base, last.name, (*last.instructions, instruction))
        else:
            name, _, default = instruction.value.partition("=")
            arguments[name] = default
    return Dockerfile(arguments, tuple(stages))
