"""META.json conforms to PGXN's Meta Spec 1.0.0 and agrees with the project's other metadata."""

import json
import re
import tomllib
from importlib import metadata
from typing import Any

import pytest

import evergreen
from evergreen_host.errors import EvergreenError
from evergreen_host.packaging import dist, pgxn
from tests.fixtures.paths import PROJECT

TERM = re.compile(r"[^/\\\s\x00-\x1f]{2,}")
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?")  # of semver.org
RELATIONS = {"requires", "recommends", "suggests", "conflicts"}


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    return json.loads((PROJECT / "META.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]


def test_it_is_what_the_command_makes(meta: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    pgxn.main()
    assert json.loads(capsys.readouterr().out) == meta, "run: make META.json"


def test_it_has_every_field_that_the_specification_requires(meta: dict[str, Any]):
    assert meta["meta-spec"]["version"] == "1.0.0"
    assert TERM.fullmatch(meta["name"])
    assert VERSION.fullmatch(meta["version"])
    assert meta["abstract"]
    assert meta["maintainer"]
    assert meta["license"] == "postgresql"  # one of the names that the specification lists
    assert meta["provides"]


def test_a_version_in_development_is_a_semantic_version():
    assert [pgxn.semantic(version) for version in ("0.2.0", "0.3.0.dev0")] == ["0.2.0", "0.3.0-dev0"]
    assert VERSION.fullmatch(pgxn.semantic("0.3.0.dev0"))


def test_what_it_provides_is_there(meta: dict[str, Any]):
    for name, extension in meta["provides"].items():
        assert TERM.fullmatch(name)
        assert VERSION.fullmatch(extension["version"])
        assert set(extension) <= {"file", "version", "abstract", "docfile"}
        assert (PROJECT / extension["file"]).is_file()
        assert (PROJECT / extension["docfile"]).is_file()


def test_prerequisites_are_versions_or_any(meta: dict[str, Any]):
    for relations in meta["prereqs"].values():
        assert set(relations) <= RELATIONS
        for name, version in (pair for wanted in relations.values() for pair in wanted.items()):
            assert TERM.fullmatch(name)
            assert version == 0 or VERSION.fullmatch(version)


def test_it_agrees_with_the_project_and_the_control_file(meta: dict[str, Any], project: dict[str, Any]):
    assert (meta["name"], meta["abstract"]) == (project["name"], project["description"])
    assert (meta["version"], dist.version()) == (pgxn.semantic(dist.version()), evergreen.__version__)
    assert sorted(meta["tags"]) == sorted(project["keywords"])
    control = (PROJECT / "extension" / "evergreen.control.in").read_text("utf-8")
    required = set(meta["prereqs"]["runtime"]["requires"]) - {"PostgreSQL"}
    assert f"requires = '{', '.join(sorted(required))}'" in control


def test_a_control_file_that_requires_nothing_is_refused():
    with pytest.raises(EvergreenError, match="has no line requires"):
        pgxn.describe(metadata.metadata(dist.DISTRIBUTION), "comment = 'x'\n")
