"""Of HTML the text that is seen is cut at headings and between blocks."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.prepare.chunkers import split_html

TAGS = "p div h1 h2 ul li table tr td pre br script style nav b span svg title details x-y blockquote !-- ! ?"
tags = st.sampled_from(TAGS.split(" "))
markup = st.lists(
    st.one_of(
        tags.map("<{}>".format),
        tags.map("</{}>".format),
        tags.map("<{} a='<p>' hidden".format),
        st.text(st.sampled_from("ab <>&;-\n\"'/"), max_size=20),
        st.sampled_from(["&amp;", "&nbsp;", "&#0;", "&#x110000;", "&notit;", "<![CDATA[x]]>", "-->"]),
    ),
    max_size=40,
).map("".join)


@settings(deadline=None)
@given(markup, st.integers(1, 100), st.booleans())
def test_any_markup_gives_chunks_that_fit(html, size, context):
    chunks = split_html(html, size, context=context)
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert split_html(html, size, context=context) == chunks


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="<&\0"), max_size=200))
def test_a_text_without_markup_loses_nothing_but_white_space(text):
    assert re.sub(r"\s+", "", "".join(split_html(text, 50))) == re.sub(r"\s+", "", text)


CASES = {
    "entities": ("<p>Fish &amp; chips &lt;b&gt; &eacute;&#233;</p>", ["Fish & chips <b> éé"]),
    "inline": ("<p>some <b>bo</b>ld and <a href='#'>linked</a>\n text</p>", ["some bold and linked text"]),
    "blocks": ("<div>one</div><div>two<p>three", ["one\n\ntwo\n\nthree"]),
    "line break": ("one<br>two<br/>three", ["one\ntwo\nthree"]),
    "list": ("<ul><li>one<li><p>two</p><ul><li>deep</li></ul></ul>end", ["- one\n- two\n- deep\n\nend"]),
    "table": (
        "<table><tr><th>a<th>b<tr><td><p>1</p></td><td><b>2</b></td></tr></table>",
        ["a | b\n1 | 2"],
    ),
    "code": ("<pre>\n  if x:\n    y &lt; z\n</pre>", ["  if x:\n    y < z"]),
    "not seen": (
        (
            "<head><title>t</title><style>p{}</style></head><nav><ul><li>menu</ul></nav><script>if(a<b)c</script>yes"
            "<!-- no <p> --><template>no</template><svg><text>no</text></svg>"
        ),
        ["yes"],
    ),
    "headings": ("<h1>A</h1><h2>B</h2><p>text</p><h2>C</h2>more", ["A\n\nB\n\ntext", "C\n\nmore"]),
    "no tag": ("1 < 2 & 3 <4> 5", ["1 < 2 & 3 <4> 5"]),
    "not finished": ("text <b class=x", ["text"]),
    "nothing": ("<p> </p>&#32;\n<br>", []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_as_it_is_seen(name):
    html, chunks = CASES[name]
    assert split_html(html, 800) == chunks


def test_blocks_that_fit_are_whole_and_longer_ones_are_cut_between_rows_and_items():
    rows = "".join(f"<tr><td>row {i}<td>{'cell ' * 5}end {i}</tr>" for i in range(40))
    items = "".join(f"<li>item {i} {'word ' * 5}end {i}" for i in range(40))
    for html in (f"<table>{rows}</table>", f"<ul>{items}</ul>"):
        for chunk in split_html(html, 200):
            assert re.match(r"(- )?(row|item) \d", chunk)
            assert re.search(r"end \d+$", chunk)
    table = "<table><tr><td>a<td>b<tr><td>c<td>d</table>"
    chunks = split_html(f"<p>{'word ' * 30}</p>{table}" * 10, 200)
    assert sum("a | b\nc | d" in chunk for chunk in chunks) == 10


def test_the_headings_stand_before_each_chunk():
    paragraphs = "".join(f"<p>Paragraph {i}. {'word ' * 20}</p>" for i in range(10))
    chunks = split_html(f"<h1>Guide</h1>Intro.<h2>Set <i>up</i></h2>{paragraphs}", 200, context=True)
    assert chunks[0] == "Guide\n\nIntro."
    assert chunks[1].startswith("Guide\n\nSet up\n\nParagraph 0.")
    assert all(chunk.startswith("Guide > Set up\n\nParagraph ") for chunk in chunks[2:])
    assert max(map(len, chunks)) <= 200


TINY = "<div> <p>a <!-- < <a/ <a_x=\"' </ <![CDATA[ <? </a <script></a <li>a & <td>"
PIECES = [piece.replace("_", " ") for piece in TINY.split()]


@pytest.mark.parametrize("html", [*(piece * (400_000 // len(piece)) for piece in PIECES), "x " * 500_000])
def test_no_shape_takes_more_than_time_in_proportion(html):
    """Unfinished, nested, repeated: libraries that make a tree took minutes or gigabytes for some of these."""
    started = time.process_time()
    chunks = split_html(html, 800)
    assert time.process_time() - started < 20
    assert max(map(len, chunks), default=0) <= 800


def test_formatting_that_is_never_closed_is_not_repeated():
    html = "".join(f"<p><b id={i}>x" for i in range(20_000)) + "<x>" * 20_000 + "</y>" * 20_000
    started = time.process_time()
    assert sum(map(len, split_html(html, 800))) < 100_000
    assert time.process_time() - started < 20
