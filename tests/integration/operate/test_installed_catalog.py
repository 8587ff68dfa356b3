"""The names and attributes of everything that CREATE EXTENSION makes, as a list to read.

``REGENERATE=1 pytest tests/integration/operate/test_installed_catalog.py`` rewrites it, for ``git diff`` to show.
"""

import difflib
import os
from pathlib import Path

import pytest

from tests.fixtures.catalog import described, summary

LIST = Path(__file__).with_name("installed_catalog.txt")


def test_the_installed_catalog_is_the_one_listed(db):
    lines = summary(db)
    if os.environ.get("REGENERATE"):
        LIST.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = LIST.read_text(encoding="utf-8").splitlines()
    changes = [*difflib.unified_diff(expected, lines, LIST.name, "now", lineterm="", n=0)]
    if changes:
        pytest.fail("\n".join([*changes, "", (__doc__ or "").strip().splitlines()[-1]]), pytrace=False)


def test_every_object_has_a_comment(db):
    found = described(db)
    comments = [(row[0], row[2]) for row in found["functions"]]
    comments += [(row[0], row[4]) for row in found["relations"] if not row[0].endswith("_id_seq")]
    comments += [(row[0], row[-1]) for row in found["event triggers"]]
    assert [name for name, comment in comments if not comment] == []
