"""Runs the SQL of a page as its reader does: in one psql, statement by statement, and tells what each block printed."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pages import Block, name_of

_MARK = "@@ line"
_WHERE = re.compile(r"^psql:<stdin>:\d+: ", re.MULTILINE)


class PageError(Exception):
    """A statement of a page failed."""


def run(psql: Path, env: Mapping[str, str], page: Path, found: list[Block], before: str = "") -> dict[Block, str]:
    """Run blocks of one page, after what comes before; return what each printed. Raises PageError, which names the line."""
    lines = [""] * max(block.end for block in found)
    for block in found:
        lines[block.line - 1 : block.end] = [f"\\echo {_MARK} {block.line}", *block.code.splitlines(), "\\echo @@ end"]
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--pset=pager=off"]
    if before:
        done = subprocess.run([psql, *options], input=before, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [psql, *options], input="\n".join(lines) + "\n", env=env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise PageError(done.stdout[-2000:].replace("<stdin>", name_of(page)))
    printed = _WHERE.sub("", done.stdout)
    return {block: _between(printed, f"{_MARK} {block.line}\n") for block in found}


def _between(printed: str, mark: str) -> str:
    _, _, after = printed.partition(mark)
    return "\n".join(line.rstrip() for line in after.partition("@@ end\n")[0].splitlines())
