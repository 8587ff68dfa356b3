"""The queries that a module runs are in the file that it loads, and each query there is run."""

import re
from pathlib import Path

import pytest

from evergreen.catalog import options
from evergreen.db.queries import parse

SERVER = Path(options.__file__).parents[1]
LOADED = re.compile(r'^SQL = load\(__package__(?:, "(\w+)")?\)$', re.MULTILINE)


def run_by(path):
    """The file of queries that a module loads, and the queries that it runs."""
    text = path.read_text("utf-8")
    found = LOADED.search(text)
    if found is None:
        return None, set()
    return path.with_name(f"{found[1] or 'queries'}.sql"), set(re.findall(r"\bSQL\.(\w+)", text))


@pytest.mark.parametrize("file", sorted(SERVER.rglob("*.sql")), ids=lambda path: path.relative_to(SERVER).as_posix())
def test_modules_and_queries_agree(file):
    named = set(parse(file.read_text("utf-8")))
    found = [run_by(path) for path in file.parent.glob("*.py")]
    used = {name for loaded, names in found if loaded == file for name in names}
    assert used - named == set()
    assert named - used == set()
