"""Server and host format numbers, nouns and logfmt values alike; they cannot import each other."""

from datetime import timedelta

import pytest

from evergreen.core import text as wording
from evergreen_host import log, report

NUMBERS = {0: "0", 999: "999", 3012: "3,012", 1234567: "1,234,567", 2.6: "3"}
NOUNS = {(0, "row", None): "0 rows", (1, "row", None): "1 row", (3012, "query", "queries"): "3,012 queries"}
VALUES = {
    "docs": "docs",
    "2026-01-31T10:00:00Z": "2026-01-31T10:00:00Z",
    "/tmp/a-b": "/tmp/a-b",
    "two words": '"two words"',
    'a "quoted" one': '"a \\"quoted\\" one"',
    "two\nlines": '"two\\nlines"',
    "Grüße": '"Grüße"',
    "a=b": '"a=b"',
    "": '""',
    7: "7",
    0.25: "0.25",
    1e9: "1e+09",
}
DURATIONS = {0.035: "35 ms", 2.5: "2.5 s", 180: "3 min", 4 * 3600: "4 h", 47 * 3600: "47 h", 48 * 3600: "2 d"}


@pytest.mark.parametrize(("value", "text"), NUMBERS.items())
def test_numbers(value, text):
    assert wording.format_number(value) == report.format_number(value) == text


@pytest.mark.parametrize(("arguments", "text"), NOUNS.items())
def test_nouns(arguments, text):
    assert wording.pluralize(*arguments) == report.pluralize(*arguments) == text


@pytest.mark.parametrize(("value", "text"), VALUES.items())
def test_logfmt(value, text):
    assert wording.logfmt("e", {"name": value}) == f"evergreen: event=e name={text}"
    assert log.format_value(value) == text


@pytest.mark.parametrize(("seconds", "text"), DURATIONS.items())
def test_durations(seconds, text):
    assert report.format_duration(timedelta(seconds=seconds)) == text


def test_a_line_of_the_log(capsys):
    log.Log().write("connected", worker=1, error=None, text="two words")
    line = capsys.readouterr().out
    assert line.startswith("at=20")
    assert line.endswith(' level=info event=connected worker=1 text="two words"\n')
