"""A table is written by the package that owns it: that of the extension's folder which creates it."""

import re
from pathlib import Path

import pytest

from evergreen.catalog import options
from evergreen.db.queries import parse
from evergreen_host.packaging import dist

SERVER = Path(options.__file__).parents[1]
WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM|TRUNCATE)\s+(?:ONLY\s+)?embed\.(\w+)")
# The catalog is read by all; its rows are written where pipelines are set up, changed and followed.
SET_UP = {"pipelines", "generations", "capture"}
ALLOWED = {
    "pipeline": SET_UP,
    "generation": SET_UP,
    "model": SET_UP,
    "endpoint": SET_UP,
    "setting": SET_UP,
    "in_flight": {"queue"},  # marks of texts live and die with their lease
    "lease": {"worker"},  # external claims
    "claimed_text": {"worker"},
}
# The body of the capture trigger runs in the transaction of the user's statement, not as a query of ours.
TEXTS = {("capture", name) for name in ("capture_body", "capture_links_body", "log_link_body")}


def owners():
    found = {}
    for path in (dist.extension_dir() / "sql").rglob("*.sql"):
        for table in re.findall(r"CREATE TABLE embed\.(\w+)", path.read_text("utf-8")):
            found[table] = path.parent.name.split("_", 1)[1]
    return found


FILES = sorted(path.relative_to(SERVER).as_posix() for path in SERVER.rglob("*.sql"))


@pytest.mark.parametrize("file", FILES)
def test_a_package_writes_its_own_tables(file):
    package, owner = file.split("/")[0], owners()
    foreign = {
        (query.name, table)
        for query in parse((SERVER / file).read_text("utf-8")).values()
        for table in WRITES.findall(query.text)
        if package not in {owner[table], *ALLOWED.get(table, ())} and (package, query.name) not in TEXTS
    }
    assert not foreign


def test_each_exception_is_needed():
    written = {
        (file.split("/")[0], table) for file in FILES for table in WRITES.findall((SERVER / file).read_text("utf-8"))
    }
    assert {table for table, packages in ALLOWED.items() if not any((p, table) in written for p in packages)} == set()
    assert {package for packages in ALLOWED.values() for package in packages} <= {package for package, _ in written}
