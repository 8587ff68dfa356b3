"""Pictures are as `make figures` draws them, and every page says what they show."""

import re
from xml.etree import ElementTree as ET

import pytest

from tests.docs.pages import PAGES, name_of
from tools.figures.__main__ import PICTURES
from tools.figures.charts import BENCH, COST_PAGE
from tools.paths import DOCS


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_as_drawn(name):
    assert (DOCS / "assets" / name).read_text("utf-8") == PICTURES[name](), "make figures draws it again"


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_one_and_says_what_it_shows(name):
    root = ET.fromstring((DOCS / "assets" / name).read_text("utf-8"))
    assert root.tag.endswith("svg")
    assert len(root.findtext("{http://www.w3.org/2000/svg}title") or "") > 20


def test_charts_have_the_figures_of_the_output():
    for number in re.findall(r"p(?:50|99) +([\d.]+) ", BENCH.read_text("utf-8")):
        assert f"{float(number):,.0f} ms" in PICTURES["lag.svg"]()
    totals = re.search(r"│total.*", COST_PAGE.read_text("utf-8"))[0]
    for number in re.findall(r"[\d,]+", totals)[1:]:
        assert f"{number} texts" in PICTURES["cost.svg"]()


def test_every_picture_is_shown_with_words():
    shown = {}
    for page in PAGES:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text("utf-8")):
            assert len(words) > 10, name_of(page)
            shown[target.rpartition("/")[2]] = page
    assert shown.keys() >= PICTURES.keys()
