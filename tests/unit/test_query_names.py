"""The queries that modules run are in their package's file, and each query there is run."""

import re
from pathlib import Path

import pytest

from evergreen.catalog import options
from evergreen.db.queries import parse

SERVER = Path(options.__file__).parents[1]
PACKAGES = sorted({path.parent for path in SERVER.rglob("*.sql")})


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(SERVER).as_posix())
def test_modules_and_queries_agree(package):
    named = {name for path in package.glob("*.sql") for name in parse(path.read_text("utf-8"))}
    used = {name for path in package.glob("*.py") for name in re.findall(r"\bSQL\.(\w+)", path.read_text("utf-8"))}
    assert used - named == set()
    assert named - used == set()
