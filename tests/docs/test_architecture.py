"""The page on architecture names packages, files and definitions that exist, and the layers of import-linter."""

import re
import tomllib

import pytest

from tests.docs.pages import ROOT, section

PAGE = ROOT / "docs" / "explanation" / "architecture.md"
SERVER = ROOT / "plpy" / "evergreen"
LOCATIONS = re.findall(r"^\| [^|]+ \| `([^`]+)` \| `(\w+)` \|$", section(PAGE, "Where to find it"), re.MULTILINE)
#: How a file defines a name: Python, a query of the server or a function of the extension.
DEFINITIONS = {".py": r"^(?:def|class) {}\b", ".sql": r"^-- {0}\(|^CREATE FUNCTION @extschema@\.{0}\("}


def test_every_location_is_listed():
    rows = [line for line in section(PAGE, "Where to find it").splitlines() if line.startswith("| ")]
    assert len(LOCATIONS) == len(rows) - 1  # the heading of the table


@pytest.mark.parametrize(("file", "name"), LOCATIONS)
def test_name_is_defined_in_its_file(file, name):
    path = ROOT / file
    assert re.search(DEFINITIONS[path.suffix].format(name), path.read_text("utf-8"), re.MULTILINE)


def test_packages_stand_in_the_order_of_their_layers():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section(PAGE, "Packages"), re.MULTILINE)
    named = [set(re.findall(r"\w+", row)) for row in rows]
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (contract,) = (found for found in linter["contracts"] if found["name"] == "Imports go down")
    assert named == [set(layer.split(" | ")) for layer in contract["layers"]]
    assert set().union(*named) == {path.parent.name for path in SERVER.glob("*/__init__.py")}
