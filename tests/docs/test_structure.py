"""The README is short, all links resolve, and every page can be found."""

import re

import pytest

from tests.docs.pages import LANGUAGES, PAGES, README, blocks, name_of

LINKS = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 10_000


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
