"""HTML to sections: the text that is seen, with its blocks."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from evergreen.prepare.sections import Mark, Part

# Python's own parser, because it makes no tree: libraries that build the tree of the standard can be made to hang or to
# eat all memory by one row. selectolax 1.0 (Lexbor): 27 kB of '<p><b id=1><p><b id=2>…' are 737 MB, 200 kB of '<div>'
# 5 s, 280 kB of '<x>…</y>…' 13 s, 270 kB of attributes 10 s, each quadratic and not to be cancelled. lxml 6 brings a
# libxml2 of its own, of which the dynamic linker takes functions from that of the server, of another version.
# HTMLParser takes 0.1 to 0.7 s for a megabyte of any of these, as long as it is not asked, by close(), to make
# something of what is not finished.
_DROPPED = frozenset("script style template noscript nav svg iframe object title select datalist".split())
_HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
_KEPT_TOGETHER = frozenset("ul ol dl table blockquote pre figure details".split())
_BLOCKS = frozenset(
    "address article aside body caption center div fieldset figcaption footer form header hgroup hr html legend main p"
    " search section summary".split()
)
_LINES = frozenset("li dt dd tr option thead tbody tfoot".split())
_CELLS = frozenset(["td", "th"])
_DEEPEST = 5
_NO_TAG = re.compile(r"<(?![a-zA-Z/!?])")
_NO_COMMENT = re.compile(r"<!(?!--)")
_SPACE = re.compile(r"[ \t\n\r\f]+")


def parts(html: str) -> Iterator[Part]:
    """Yield the parts between the headings of an HTML text, entities decoded."""
    reader = _Reader()
    # The line break at the end finishes a text that could go on as an entity.
    reader.feed(_NO_COMMENT.sub("<?", _NO_TAG.sub("&lt;", html)) + "\n")
    reader.end_part()
    yield from reader.parts


class _Reader(HTMLParser):
    """Collects text, and what must stand between it and the text before."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Part] = []
        self._dropped: list[str] = []  # open elements that are left out; the first is why
        self._depth = 0
        self._preformatted = 0
        self._begin(0)

    def _begin(self, level: int) -> None:
        self._level = level
        self._title: list[str] | None = [] if level else None
        self._heading = ""
        self._texts: list[str] = []
        self._length = 0
        self._marks: list[Mark] = []
        self._gap = ""
        self._mark: int | None = 0
        self._bullet = ""
        self._in_row = self._in_cell = False  # a cell of this row was seen; nothing of this cell was written yet
        self._has_text = False

    def end_part(self) -> None:
        """Put what was collected since the last heading away."""
        self._end_title()
        if self._texts:
            # A gap at the end, for a heading without text that is joined with the next part.
            text = "".join([*self._texts, "\n\n"])
            self.parts.append(Part(self._level, self._heading, text, tuple(self._marks), not self._has_text))

    def _end_title(self) -> None:
        if self._title is not None:
            self._heading = " ".join("".join(self._title).split())
            self._title = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Break the text where a block starts."""
        del attrs  # none of them is seen
        if self._dropped or tag in _DROPPED:
            if not self._dropped or tag == self._dropped[0]:
                self._dropped.append(tag)
        elif tag in _HEADINGS:
            self.end_part()
            self._begin(int(tag[1]))
        elif tag in _KEPT_TOGETHER:
            self._break("\n\n" if self._depth == 0 else "\n", self._depth)
            self._depth += 1
            self._preformatted += tag == "pre"
        elif tag in _BLOCKS:
            self._break("\n\n" if self._depth == 0 else "\n", self._depth)
        elif tag == "br":
            self._gap = self._gap if "\n" in self._gap else "\n"
        elif tag in _LINES:
            self._in_row = self._in_cell = False
            self._break("\n", self._depth)
            self._bullet = "- " if tag == "li" else ""
        elif tag in _CELLS:
            self._start_cell()

    def handle_endtag(self, tag: str) -> None:
        """Break the text where a block ends."""
        if self._dropped:
            if tag == self._dropped[0]:
                self._dropped.pop()
        elif tag in _HEADINGS:
            self._end_title()
            self._break("\n\n", 0)
        elif tag in _KEPT_TOGETHER:
            self._in_row = self._in_cell = False
            self._bullet = ""
            self._depth = max(0, self._depth - 1)
            self._preformatted = max(0, self._preformatted - (tag == "pre"))
            self._break("\n\n" if self._depth == 0 else "\n", self._depth)
        elif tag in _BLOCKS:
            self._break("\n\n" if self._depth == 0 else "\n", self._depth)

    def handle_data(self, data: str) -> None:
        """Take text, its white space as a browser would."""
        if self._dropped:
            return
        if self._preformatted:
            self._write(data.removeprefix("\n") if self._mark is not None else data)
            return
        text = _SPACE.sub(" ", data)
        if text.startswith(" ") and not self._gap:
            self._gap = " "
        if text != " ":
            self._write(text.strip(" "))
            if text.endswith(" "):
                self._gap = " "

    def _start_cell(self) -> None:
        if self._in_row:
            self._gap, self._mark = " | ", None
        self._in_row = self._in_cell = True

    def _break(self, gap: str, depth: int) -> None:
        if self._in_cell:
            return
        self._gap = max(self._gap, gap, key=lambda found: (found.count("\n"), found))
        self._mark = min(depth, _DEEPEST, self._mark if self._mark is not None else depth)

    def _write(self, text: str) -> None:
        if not text:
            return
        gap = self._gap if self._texts else ""
        text, self._bullet = self._bullet + text, ""
        self._texts.append(gap + text)
        if self._mark is not None:
            self._marks.append((self._length + len(gap), self._mark))
        self._length += len(gap) + len(text)
        self._gap, self._mark, self._in_cell = "", None, False
        if self._title is not None:
            self._title.append(gap + text)
        else:
            self._has_text = True
