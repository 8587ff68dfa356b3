"""The wheel on a clean machine: pip, `evergreen setup`, `evergreen install`, and the demo, far from any checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.distributions import LEFT_OUT, build
from tests.fixtures.paths import PROJECT
from tests.packaging.debianroot import DebianRoot

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes roots, which only root may"),
]
#: In a new place for people's own programs, with no more than Debian's Python.
INSTALL = """
set -eux
python3 -m venv /opt/evergreen
/opt/evergreen/bin/pip install --quiet /tmp/pg_evergreen-*.whl
/opt/evergreen/bin/evergreen setup
/opt/evergreen/bin/evergreen install
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("wheel") / "evergreen"
    shutil.copytree(PROJECT, tree, ignore=LEFT_OUT)
    return next(build(tree, "wheel").iterdir())


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, wheel: Path) -> DebianRoot:
    root = DebianRoot(request.param, "python3-venv", f"{request.param}-clean")
    root.make(fresh=True)
    shutil.copy(wheel, root.path / "tmp")
    assert root.run(INSTALL, cwd="/") == 0
    return root


def said(root: DebianRoot, command: str) -> str:
    with root.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        output, _ = running.communicate()
    assert running.returncode == 0, output
    return output


def test_what_is_installed_is_what_the_wheel_says(machine: DebianRoot):
    assert not (machine.path / "srv/evergreen").exists()
    again = said(machine, "/opt/evergreen/bin/evergreen setup && /opt/evergreen/bin/evergreen install")
    assert "already there" in again
    assert "with its packages" not in again
    said(
        machine, "ls /usr/share/postgresql/*/extension/evergreen--*.sql /usr/lib/postgresql/*/lib/evergreen/*/evergreen"
    )


def test_the_demo_needs_no_repository(machine: DebianRoot):
    told = said(machine, "/opt/evergreen/bin/evergreen demo --rows 500")
    assert "SELECT embed_schedule();" in told
    assert "evergreen: looks after vectors" in told  # the row that was changed last, found by what it now says
