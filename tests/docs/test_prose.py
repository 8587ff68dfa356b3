"""Pages read easily: they say at once what they are for, in short sentences and plain words."""

import re

import pytest

from tests.docs.pages import PAGES, WRITTEN, name_of

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_NO_PROSE = re.compile(r"^(?:#|\||!\[|<|\?\?\?|!!!|===)")
_END = re.compile(r"(?<=[.!?])[)*]*(?=\s+|$)")
_AVOIDED = re.compile(
    r"\b(?:whoever|somebody|nobody|anew|amid|in vain|thereby|is to be|such as is|pays most)\b", re.IGNORECASE
)


def paragraphs(text: str) -> list[str]:
    """Paragraphs and items of lists, each in one line, without headings, tables and code."""
    text = re.sub(r"`[^`]*`", "code", _COMMENT.sub("", _FENCED.sub("\n", text)))
    text = re.sub(r"\]\([^)]*\)", "]", text)
    found: list[str] = []
    for line in text.splitlines():
        starts = re.match(r"\s*(?:[-*]|\d+\.)\s", line)
        if not line.strip() or _NO_PROSE.match(line.strip()):
            found.append("")
        elif starts or not found or not found[-1]:
            found.append(line.strip())
        else:
            found[-1] += " " + line.strip()
    return [one for one in found if one]


def sentences(text: str) -> list[str]:
    """The sentences; an item of a list without a full stop is one, too."""
    return [part.strip() for one in paragraphs(text) for part in _END.split(one) if len(part.split()) > 1]


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_sentences_are_short(page):
    found = sentences(page.read_text("utf-8"))
    assert sum(len(one.split()) for one in found) / len(found) < 18
    longest = max(found, key=lambda one: len(one.split()))
    assert len(longest.split()) <= 45, longest


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_first_lines_say_what_it_is_for(page):
    lines = [line for line in _COMMENT.sub("", page.read_text("utf-8")).splitlines() if line.strip()]
    assert re.match(r"# \S", lines[0])
    assert re.match(r"[A-Z`]", lines[1]), lines[1]
    assert not lines[1].startswith(("These statements continue", "## "))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_words_to_avoid(page):
    assert _AVOIDED.findall(page.read_text("utf-8")) == []
