"""Runs the SQL of a page as its reader does: in one psql, statement by statement; returns what each block prints."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.docs.pages import Block, name_of

_MARK = "\x02line"
_END = "\x03"
_OPTIONS = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--pset=pager=off"]
_WHERE = re.compile(r"^psql:\S+?:\d+: ", re.MULTILINE)


class PageError(Exception):
    """A statement of a page failed."""


def run(page: Path, before: str, found: list[Block], env: Mapping[str, str], folder: Path) -> dict[Block, str]:
    """Run some SQL, then the blocks of one page; return what each printed. Raises PageError, which names the line."""
    lines = [""] * max(block.end for block in found)
    for block in found:  # each line where it stands on the page: so psql names it
        lines[block.line - 1 : block.end] = [f"\\echo {_MARK} {block.line}", *block.code.splitlines(), f"\\echo {_END}"]
    earlier, script = folder / "earlier", folder / page.name
    earlier.write_text(before, "utf-8")
    script.write_text("\n".join(lines) + "\n", "utf-8")
    done = subprocess.run(
        ["psql", *_OPTIONS, "--file", earlier, "--file", script],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise PageError(done.stdout[-2000:].replace(str(script), name_of(page)))
    printed = _WHERE.sub("", done.stdout)
    return {block: _between(printed, f"{_MARK} {block.line}\n") for block in found}


def _between(printed: str, mark: str) -> str:
    _, _, after = printed.partition(mark)
    return "\n".join(line.rstrip() for line in after.partition(_END)[0].splitlines())
