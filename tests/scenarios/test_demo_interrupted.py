"""A demo that is interrupted leaves nothing behind: no process, no folder."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.stress import often

pytestmark = pytest.mark.slow

# Where SIGINT is ignored, as in a background job, children ignore it, too.
DEMO = """
import signal
from evergreen_host.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
MARK = "EVERGREEN_TEST_MARK"
TIMEOUT = 60.0


class Demo:
    """A running demo; everything that it starts has its mark in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".output")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", DEMO, "demo", "--rows", "600"],
                env={**os.environ, "TMPDIR": str(folder), MARK: str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text("utf-8")

    def says(self, words: str) -> Callable[[], bool]:
        return lambda: words in self.said()

    def has(self, pattern: str) -> Callable[[], bool]:
        return lambda: any(self.folder.glob(pattern))

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.002)  # another process, which no condition of the test can wake

    def processes(self) -> list[str]:
        """The command lines of the demo's processes, also of those in sessions of their own."""
        mark = f"{MARK}={self.folder}".encode()
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while (self.processes() or any(self.folder.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.02)  # as above
        assert self.processes() == []
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def demo() -> Iterator[Demo]:
    folder = Path(tempfile.mkdtemp(prefix="demo-"))
    folder.chmod(0o1777)  # like /tmp; the server has a user of its own
    demo = Demo(folder)
    yield demo
    demo.process.kill()
    demo.process.wait()
    demo.assert_nothing_left()
    shutil.rmtree(folder)
    demo.output.unlink()


MOMENTS: dict[str, Callable[[Demo], Callable[[], bool]]] = {
    "documents": lambda demo: demo.says("reading documents"),
    "folder": lambda demo: demo.has("evergreen-*"),
    "initdb": lambda demo: demo.has("evergreen-*/data/PG_VERSION"),
    "start": lambda demo: demo.has("evergreen-*/data/postmaster.pid"),
    "rows": lambda demo: demo.says("3. Existing rows"),
    "worker": lambda demo: demo.says("waiting ..."),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("moment", often(MOMENTS, "documents", "start", "worker"))
def test_ctrl_c_removes_everything(demo, moment):
    demo.wait(MOMENTS[moment](demo))
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does
    assert demo.process.wait(TIMEOUT) != 0
    assert demo.processes() == []
    assert list(demo.folder.iterdir()) == []
    assert "Traceback" not in demo.said()


@pytest.mark.stress
def test_an_impatient_ctrl_c_does_not_stop_the_cleanup(demo):
    demo.wait(MOMENTS["initdb"](demo))
    while demo.process.poll() is None:
        os.killpg(demo.process.pid, signal.SIGINT)
        time.sleep(0.05)  # between two key presses
    demo.assert_nothing_left()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("documents", signal.SIGHUP),
        ("initdb", signal.SIGTERM),
        pytest.param("rows", signal.SIGTERM, marks=pytest.mark.stress),
    ],
)
def test_signals_to_the_command_alone_remove_everything(demo, moment, number):
    demo.wait(MOMENTS[moment](demo))
    demo.process.send_signal(number)
    assert demo.process.wait(TIMEOUT) != 0
    demo.assert_nothing_left()
    assert "Traceback" not in demo.said()


def test_a_killed_demo_is_removed(demo):
    demo.wait(MOMENTS["rows"](demo))
    demo.process.kill()
    demo.assert_nothing_left()
