"""Runs programs; an error shows the end of their output. Handles Ctrl-C while they run."""

import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from evergreen_host.errors import CommandError, MissingError

_TAIL_LINES = 25
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEANUP_S = 5.0  # for a program to remove its temporary files after Ctrl-C


@contextmanager
def deferred_interrupts(waits_for: str = "") -> Generator[None, None, None]:
    """Hold back Ctrl-C and SIGTERM until the end of the block; `waits_for` is then printed.

    Programs started in the block need `own_session`, because a terminal sends Ctrl-C to them, too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        if waits_for and not held:
            print(f"interrupted: waiting for {waits_for}", file=sys.stderr, flush=True)
        held.append(number)

    before = {number: signal.signal(number, hold) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if held:
            signal.raise_signal(held[0])


def _end(process: "subprocess.Popen[str]") -> None:
    """End a program, which has had Ctrl-C from the terminal, after it has cleaned up."""
    for action in (lambda: None, process.terminate, process.kill):
        action()
        try:
            process.communicate(timeout=_CLEANUP_S)
        except subprocess.TimeoutExpired:
            continue
        return


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    own_session: bool = False,
    hint: str = "",
) -> str:
    """Run a program and return its standard output.

    `user` drops root privileges first, to that user and the group of the same name. With `own_session`, the terminal's
    Ctrl-C does not reach the program.
    Raises CommandError with the end of the program's output, MissingError if there is no such program.
    """
    argv = [str(arg) for arg in args]
    groups: list[str] | None = None if user is None else []
    try:
        process = subprocess.Popen(
            argv, cwd=cwd, env=env, user=user, group=user, extra_groups=groups, start_new_session=own_session,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingError(f"cannot run {argv[0]}: {error.strerror}", hint) from error
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        with deferred_interrupts():
            _end(process)
        raise
    if process.returncode != 0:
        output = (stdout + stderr).strip().splitlines()[-_TAIL_LINES:]
        raise CommandError("\n".join([f"failed ({process.returncode}): {shlex.join(argv)}", *output]), hint)
    return stdout


def this_command() -> str:
    """Return the path of the running `evergreen`, which may not be in the PATH."""
    program = Path(sys.argv[0])
    return str(program.resolve()) if program.is_file() else "evergreen"


def as_root(subcommand: str) -> str:
    """Return the sudo command line for an `evergreen` subcommand; root's PATH may not include it."""
    return f"sudo {this_command()} {subcommand}"
