"""A process that ends Python before it exits ends as it should, also when requests were watched in it."""

import subprocess
import sys

from tests.fixtures.paths import PROJECT

PLPY = PROJECT / "plpy"
PROGRAM = """
import threading
from concurrent.futures import Future
from evergreen.embedding import exit_guard
from evergreen.core.embedding import RequestCanceller

class Canceller(RequestCanceller):
    def cancel(self):
        print("cut", flush=True)
        under_way.set_result(None)

under_way = Future()
exit_guard.watch(under_way, Canceller())
"""


def test_python_that_ends_first_cuts_what_is_under_way_and_exits_with_0():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": str(PLPY)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "cut\n", "")
