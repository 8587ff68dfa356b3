"""Runs programs; an error shows the end of their output."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evergreen_host.errors import CommandError, MissingError

_TAIL_LINES = 25


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    hint: str = "",
) -> str:
    """Run a program and return its standard output.

    `user` drops root privileges first, to that user and the group of the same name.
    Raises CommandError with the end of the program's output, MissingError if there is no such program.
    """
    argv = [str(arg) for arg in args]
    groups: list[str] | None = None if user is None else []
    try:
        completed = subprocess.run(
            argv, cwd=cwd, env=env, user=user, group=user, extra_groups=groups,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingError(f"cannot run {argv[0]}: {error.strerror}", hint) from error
    if completed.returncode != 0:
        output = (completed.stdout + completed.stderr).strip().splitlines()[-_TAIL_LINES:]
        raise CommandError("\n".join([f"failed ({completed.returncode}): {shlex.join(argv)}", *output]), hint)
    return completed.stdout


def as_root(subcommand: str) -> str:
    """Return the sudo command line for an `evergreen` subcommand; root's PATH may not include it."""
    program = Path(sys.argv[0])
    return f"sudo {program.resolve() if program.is_file() else 'evergreen'} {subcommand}"
