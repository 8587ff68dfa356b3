"""A container engine for the tests of the image: the one that answers, or a dockerd with its state in a folder.

A dockerd of ours needs root, Debian's docker.io and iptables. What it leaves behind is taken away when it ends: its
bridge, its chains, the switch for forwarding packets.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

import docker
from docker.errors import DockerException

from tests.fixtures.waiting import wait_until
from tests.packaging.debianroot import remove

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_BRIDGE = "docker0"
_CGROUPS = Path("/sys/fs/cgroup")
_LOCK = Path("/run/lock/evergreen-test-engine")  # two of them would share the bridge and the chains
_START = 60  # seconds
_STOP = 60


class NoEngineError(Exception):
    """Why there is no engine."""


def answers() -> str:
    """Return '' if the engine of the environment answers, else what it says."""
    try:
        with closing(docker.from_env()) as client:
            client.ping()
    except DockerException as error:
        return str(error).splitlines()[0]
    return ""


def _obstacle() -> str:
    """Say what keeps us from starting one."""
    if os.geteuid() != 0:
        return "only root can start one"
    if missing := [command for command in ("dockerd", "iptables", "ip") if shutil.which(command) is None]:
        return f"not installed: {', '.join(missing)} (Debian: docker.io iptables iproute2)"
    return ""


def _run(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout


def without_docker(rules: str, forward: str) -> str:
    """Return what iptables-save prints without docker's chains and rules, and FORWARD's policy as it was."""
    kept: list[str] = []
    for line in rules.splitlines():
        if line.startswith(":FORWARD "):
            kept.append(f":FORWARD {forward} [0:0]" if forward else line)
        elif not line.startswith((":", "-")) or (_BRIDGE not in line and "DOCKER" not in line):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _policy(rules: str) -> str:
    """Return the policy of the filter's FORWARD."""
    _, _, table = rules.partition("*filter\n")
    return next((line.split()[1] for line in table.splitlines() if line.startswith(":FORWARD ")), "ACCEPT")


def _has_bridge() -> bool:
    return any(line.split(": ")[1] == _BRIDGE for line in _run("ip", "-oneline", "link").splitlines())


class _Network:
    """What the machine's network is before dockerd changes it."""

    def __init__(self) -> None:
        self._forward = _FORWARD.read_text()
        self._had_bridge = _has_bridge()
        self._policy = _policy(_run("iptables-save", "-t", "filter"))

    def restore(self) -> None:
        """Take away bridge, chains and rules, unless they are another engine's."""
        if self._had_bridge:
            return
        if _has_bridge():
            _run("ip", "link", "delete", _BRIDGE)
        for table, policy in (("filter", self._policy), ("nat", "")):
            rules = without_docker(_run("iptables-save", "-t", table), policy)
            _run("iptables-restore", "--table", table, given=rules)
        _FORWARD.write_text(self._forward)


class Daemon:
    """dockerd and its containerd, with sockets, images and containers in one new folder."""

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="evergreen-engine-", dir="/var/tmp")
        )  # images need a disk, sockets a short path
        self.host = f"unix://{self.folder}/docker.sock"
        self._network = _Network()
        self._cgroups = set(_CGROUPS.glob("*/docker"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        # overlay2, or each layer would be a copy of all below it. It ends with the process that runs the tests.
        command = [
            "setpriv", "--pdeathsig=TERM", "dockerd", "--host", self.host, "--data-root", str(self.folder / "data"),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid"),
            "--storage-driver", "overlay2",
        ]  # fmt: skip
        log = self.folder / "log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(command, stdout=said, stderr=said)
        ready = "API listen on"
        wait_until(lambda: ready in log.read_text("utf-8") or self._process_ended(), _START, "the engine's start")
        if self._process_ended():
            raise NoEngineError(f"dockerd does not start: {log.read_text('utf-8').splitlines()[-1][-200:]}")

    def _process_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_STOP)
        self._network.restore()
        for cgroup in set(_CGROUPS.glob("*/docker")) - self._cgroups:
            cgroup.rmdir()
        remove(self.folder)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextmanager
def engine() -> Iterator[bool]:
    """Lead docker and testcontainers to an engine; tells whether it is ours, and then has no images.

    Raises NoEngineError.
    """
    if not (silence := answers()):
        with _environment(TESTCONTAINERS_RYUK_DISABLED="true"):
            yield False
        return
    if obstacle := _obstacle():
        raise NoEngineError(f"no container engine answers ({silence[:80]}), and {obstacle}")
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Daemon() as daemon, _environment(DOCKER_HOST=daemon.host, TESTCONTAINERS_RYUK_DISABLED="true"):
            yield True
