"""Terminal output on the pages uses the words of the programs that print it."""

import re

import pytest

from tests.docs.pages import ROOT, blocks

#: The page, and where the words of what is shown there are from.
FROM = {
    "explanation/cost.md": (
        "plpy/evergreen_host/demo/*.*",
        "plpy/evergreen/pipelines/*.py",
        "plpy/evergreen/worker/*.py",
    ),
    "how-to/operate.md": ("plpy/evergreen_host/monitor/status.py",),
}
#: Names of a database and its pipelines.
NAMES = {"shop", "docs", "tickets"}


def words(text):
    return set(re.findall(r"[A-Za-z_]{3,}", text))


@pytest.mark.parametrize("page", FROM)
def test_its_words_are_those_of_the_program(page):
    shown = blocks(ROOT / "docs" / page, "text")[0]
    sources = "\n".join(path.read_text("utf-8") for pattern in FROM[page] for path in sorted(ROOT.glob(pattern)))
    assert len(words(shown.code)) > 10
    assert words(shown.code) - words(sources) <= NAMES
