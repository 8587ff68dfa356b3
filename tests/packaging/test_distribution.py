"""Wheel and sdist: reproducible builds that contain everything and nothing else."""

import os
import shutil
import subprocess
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from evergreen_host.packaging import dist
from tests.fixtures.distributions import LEFT_OUT, build, files
from tests.fixtures.paths import PROJECT

pytestmark = pytest.mark.stress


PLACES = {"evergreen": "plpy/evergreen", "evergreen_host": "plpy/evergreen_host"}
EXTENSION = "evergreen_host/_extension"


def contents(built: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in built.iterdir()}


def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


def sdist(built: Path) -> tarfile.TarFile:
    return tarfile.open(next(built.glob("*.tar.gz")))


def tracked() -> set[str]:
    """What version control has of the project; where there is none, as in an unpacked sdist, what lies there."""
    if not (PROJECT / ".git").exists():
        return files(PROJECT)
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, check=True, capture_output=True, text=True)
    return set(listed.stdout.splitlines())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("here") / "evergreen"
    shutil.copytree(PROJECT, tree, ignore=LEFT_OUT)
    return build(tree)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sources, checked out at another time, in another place, with a strict umask."""
    tree = tmp_path_factory.mktemp("elsewhere") / "a" / "checkout"
    shutil.copytree(PROJECT, tree, ignore=LEFT_OUT)
    for path in tree.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return tree


def test_built_elsewhere_they_are_the_same_bytes(built: Path, elsewhere: Path):
    again = build(elsewhere, umask=0o077, TZ="Asia/Kathmandu", LC_ALL="C", PYTHONHASHSEED="7")
    assert contents(again) == contents(built)


def test_source_date_epoch_is_the_time_of_every_file(built: Path, elsewhere: Path):
    moment = 1_700_000_000
    dated = build(elsewhere, SOURCE_DATE_EPOCH=str(moment))
    expected = datetime.fromtimestamp(moment, UTC).timetuple()[:6]
    assert {info.date_time for info in wheel(dated).infolist()} == {expected}
    assert {info.mtime for info in sdist(dated).getmembers()} == {moment}
    assert contents(dated) != contents(built)


def test_a_wheel_from_the_sdist_is_that_from_the_checkout(built: Path, tmp_path: Path):
    with sdist(built) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert contents(build(unpacked)) == contents(built)


def test_the_wheel_has_both_packages_and_the_extension_and_nothing_else(built: Path):
    expected = {f"{place}/{name}" for place, folder in PLACES.items() for name in files(PROJECT / folder)}
    expected |= {f"{EXTENSION}/{name}" for name in files(PROJECT / "extension")}
    packed = {name for name in wheel(built).namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {PurePosixPath(name).suffix for name in packed} >= {".py", ".sql", ".in", ".toml"}
    assert not [name for name in packed if PurePosixPath(name).name.startswith("test_")]


def test_everybody_may_read_what_is_in_the_wheel(built: Path):
    assert {info.external_attr >> 16 & 0o777 for info in wheel(built).infolist()} <= {0o644, 0o755}


def test_the_wheel_carries_licence_and_readme(built: Path):
    with wheel(built) as archive:
        folder = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")).removesuffix(
            "METADATA"
        )
        assert archive.read(f"{folder}licenses/LICENSE") == (PROJECT / "LICENSE").read_bytes()
        about = archive.read(f"{folder}METADATA").decode()
    assert "License-Expression: PostgreSQL\n" in about
    assert (PROJECT / "README.md").read_text("utf-8") in about


def test_the_sdist_has_the_whole_project(built: Path):
    with sdist(built) as archive:
        packed = {info.name.partition("/")[2] for info in archive.getmembers()}
    assert {name for name in tracked() if not name.startswith(".ci/")} <= packed
    assert not {name for name in packed if "/__pycache__/" in name or name.startswith(("build/", ".venv/", ".git/"))}


def test_the_changelog_begins_with_this_version():
    headings = [line for line in (PROJECT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## ")]
    assert headings[0].split()[1] == dist.version().split(".dev")[0]
