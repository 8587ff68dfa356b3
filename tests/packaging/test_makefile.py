"""The Makefile installs what a target needs and no more, and starts again after Ctrl-C."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.paths import PROJECT

#: A Python that notes its arguments, and installs itself as that of a virtual environment.
PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
[ "$1 $2" = "-m venv" ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python
exit 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("Makefile", "pyproject.toml", "plpy/evergreen/__init__.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tree / name)
    return tree


def make(tree: Path, *arguments: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=tree, check=True, capture_output=True, text=True
    ).stdout


def test_the_demo_needs_no_packages_of_tests_checks_or_docs(tree: Path):
    commands = make(tree, "--dry-run", "demo")
    assert "--editable .\n" in commands
    assert "[test" not in commands
    assert "[test" in make(tree, "--dry-run", "test-unit")


def test_the_packages_of_tests_are_enough_for_the_demo(tree: Path):
    (tree / ".venv").mkdir()
    (tree / ".venv/.installed").touch()
    assert "pip install" not in make(tree, "--dry-run", "demo", "install")


def test_an_interrupted_venv_is_made_again(tree: Path):
    log = tree / "log"
    stub = tree / "python"
    stub.write_text(PYTHON.format(log=log), "utf-8")
    stub.chmod(0o755)
    (tree / ".venv/bin").mkdir(parents=True)
    (tree / ".venv/bin/python").write_text("#!/bin/sh\necho No module named pip >&2\nexit 1\n", "utf-8")
    (tree / ".venv/bin/python").chmod(0o755)
    make(tree, ".venv/.runtime", f"PYTHON={stub}")
    assert log.read_text("utf-8").splitlines() == [
        "-m venv --clear .venv",
        "-m pip install --quiet --disable-pip-version-check --editable .",
    ]
    make(tree, ".venv/.runtime", f"PYTHON={stub}")
    assert len(log.read_text("utf-8").splitlines()) == 2
