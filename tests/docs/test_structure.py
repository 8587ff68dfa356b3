"""The README has its sections in order and is short enough; all links resolve."""

import re

import pytest

from tests.docs.pages import LANGUAGES, PAGES, README, blocks, name_of

SECTIONS = [
    "Two commands", "Five minutes", "How it works", "Operate", "Tune", "Security", "API", "Compare", "Develop",
]  # fmt: skip
LINKS = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_sections_in_their_order():
    text = README.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert len(text.splitlines()) <= 450


def test_what_it_is_in_three_sentences():
    introduction = re.sub(r"^# .+\n", "", README.read_text("utf-8").split("\n## ")[0])
    assert len(re.findall(r"\.(?=\s)", introduction)) == 3


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert page.read_text("utf-8").count("```") == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in LINKS.findall(page.read_text("utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {README}
    while new:
        reached |= new
        linked = {
            (page.parent / link.partition("#")[0]).resolve()
            for page in new
            for link in LINKS.findall(page.read_text("utf-8"))
        }
        new = (linked & set(PAGES)) - reached
    assert [name_of(page) for page in PAGES if page not in reached] == []
