"""The README and the pages of docs/ as the tests read them: blocks of code by language and line, and inline code."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.paths import PROJECT
from tools.reference.markdown import GENERATED

ROOT = PROJECT
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages that people write; the others are generated (tools/reference).
WRITTEN = [page for page in PAGES if GENERATED not in page.read_text("utf-8")]
#: What a block may hold; ``text`` is what something prints, or a drawing.
LANGUAGES = frozenset({"sql", "sh", "python", "text", "yaml"})

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A block of code; ``line`` is that of its opening fence, ``section`` the heading above it."""

    page: Path
    language: str
    line: int
    section: str
    code: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line + 1}"

    @property
    def end(self) -> int:
        """The line of the closing fence."""
        return self.line + self.code.count("\n") + 1


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in their order, of some languages or of all."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCED.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", before), re.MULTILINE)
        found.append(Block(page, match[1], before.count("\n") + 1, headings[-1], match[2]))
    return [block for block in found if not languages or block.language in languages]


def section(page: Path, heading: str) -> str:
    """What stands under a heading of the second level."""
    (found,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return found


def inline(text: str, *starts: str) -> list[str]:
    """The code within sentences and tables that starts with one of the words."""
    return [code for code in _INLINE.findall(_FENCED.sub("", text)) if code.startswith(starts)]


def command_lines() -> list[tuple[str, str]]:
    """Every line of a shell block, without its comment, with where it stands."""
    lines = []
    for block in (block for page in PAGES for block in blocks(page, "sh")):
        for number, line in enumerate(block.code.splitlines(), block.line + 1):
            if command := line.split(" #")[0].strip():
                lines.append((f"{name_of(block.page)}:{number}", command))
    return lines


def tutorial() -> str:
    """What a reader has typed before any other page."""
    return "\n".join(block.code for block in blocks(README, "sql") if block.section == "Getting started")
