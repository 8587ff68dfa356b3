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


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)
    return path


def test_where_uv_cannot_install_pip_does(tree: Path):
    log = tree / "log"
    stub = program(tree / "python", PYTHON.format(log=log))
    with_pip = "-m pip install --quiet --disable-pip-version-check --editable .[test,check,docs]"
    uv = program(tree / ".venv/bin/uv", "#!/bin/sh\necho no index >&2\nexit 2\n")
    assert "now with pip" in make(tree, ".venv/.installed", f"PYTHON={stub}")
    assert log.read_text("utf-8").splitlines()[-1] == with_pip
    (tree / ".venv/.installed").unlink()
    log.unlink()
    program(uv, f'#!/bin/sh\necho uv "$@" >> "{log}"\n')
    make(tree, ".venv/.installed", f"PYTHON={stub}")
    lines = log.read_text("utf-8").splitlines()
    assert with_pip not in lines
    assert lines[-1] == "uv pip install --quiet --no-cache --python .venv/bin/python --editable .[test,check,docs]"


def test_an_interrupted_venv_is_made_again(tree: Path):
    log = tree / "log"
    stub = program(tree / "python", PYTHON.format(log=log))
    program(tree / ".venv/bin/python", "#!/bin/sh\necho No module named pip >&2\nexit 1\n")
    make(tree, ".venv/.runtime", f"PYTHON={stub}")
    assert log.read_text("utf-8").splitlines() == [
        "-m venv --clear .venv",
        "-m pip install --quiet --disable-pip-version-check --editable .",
    ]
    make(tree, ".venv/.runtime", f"PYTHON={stub}")
    assert len(log.read_text("utf-8").splitlines()) == 2
