"""Reference of the command line: what --help says, and the exit codes."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import typer

from evergreen_host import cli, errors
from tools.reference.markdown import block, code, page, sentence, table

INTRODUCTION = """\
Every command of `evergreen`, with its options and exit codes. `evergreen COMMAND --help` says the same.

Commands connect as psql does: `--dsn` takes a connection string. Without it, the libpq variables (`PGHOST`, `PGDATABASE`,
`PGSERVICE` …) count."""
EXIT_CODES = """\
Every command ends with one of these, so a script can act on it. `evergreen doctor` ends with 1 if it finds an error."""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, by its full name."""
    inner = getattr(command, "commands", {})
    for short, found in inner.items():
        yield from commands(found, f"{name} {short}")
    if not inner:
        yield name, command


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _shown(parameter: Any) -> tuple[str, str]:
    """Return how a parameter is typed, and its meaning with its default."""
    value = parameter.name.upper()
    flag = getattr(parameter, "is_flag", False)
    typed = value if _is_argument(parameter) else ", ".join(parameter.opts) + ("" if flag else f" {value}")
    described = parameter.help or ""
    default = parameter.default
    if parameter.required:
        described += " Required."
    elif isinstance(default, int | float | str) and not isinstance(default, bool) and default != "":
        described += f" Default: {default}."
    return code(typed), described


def _section(name: str, command: Any) -> list[str]:
    shown = [one for one in command.params if not getattr(one, "hidden", False) and "--help" not in one.opts]
    words = [one.name.upper() if one.required else f"[{one.name.upper()}]" for one in shown if _is_argument(one)]
    parts = [f"## {name}", sentence(cleandoc(command.help or "")), block(" ".join([name, *words, "[OPTIONS]"]))]
    return [*parts, table(("option", "meaning"), map(_shown, shown))] if shown else parts


def _exit_codes() -> list[tuple[str, str]]:
    kinds = [errors.EvergreenError, errors.MissingError, errors.NotPermittedError]
    meanings = {0: "Done.", 2: "Wrong usage: an option or argument is wrong."}
    for kind in kinds:
        meanings[kind.exit_code] = (
            cleandoc(kind.__doc__ or "").partition(" Exit code")[0].replace("; `hint` says what to do about it", "")
        )
    return [(str(number), meanings[number]) for number in sorted(meanings)]


def render() -> str:
    """Return the page."""
    sections = [
        part for name, one in commands(typer.main.get_command(cli.app), "evergreen") for part in _section(name, one)
    ]
    return page(
        "Command line", INTRODUCTION, *sections, "## Exit codes", EXIT_CODES, table(("code", "meaning"), _exit_codes())
    )
