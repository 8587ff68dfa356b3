"""The README's terminal output uses the words of the programs that print it."""

import re

import pytest

from tests.docs.pages import README, ROOT, blocks

#: The section of the README, and where the words of what is shown there are from.
FROM = {
    "Two commands": ("plpy/evergreen_host/demo/*.*", "plpy/evergreen/pipelines/*.py", "plpy/evergreen/worker/*.py"),
    "Operate": ("plpy/evergreen_host/monitor/status.py",),
}
#: Names of a database and its pipelines.
NAMES = {"shop", "docs", "tickets"}


def words(text):
    return set(re.findall(r"[A-Za-z_]{3,}", text))


@pytest.mark.parametrize("section", FROM)
def test_its_words_are_those_of_the_program(section):
    (shown,) = (block for block in blocks(README, "text") if block.section == section)
    sources = "\n".join(path.read_text("utf-8") for pattern in FROM[section] for path in sorted(ROOT.glob(pattern)))
    assert len(words(shown.code)) > 10
    assert words(shown.code) - words(sources) <= NAMES
