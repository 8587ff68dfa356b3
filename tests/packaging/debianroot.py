"""A root of a Debian release, made with debootstrap; commands run in it as on a new machine.

    python tests/packaging/debianroot.py trixie make test
    python tests/packaging/debianroot.py --packages=git,make,python3-venv --fresh bookworm make demo

The project's last commit is cloned into it. Mirror, certificates and pip's settings are the machine's own (a mirror
that is weeks behind will do). Needs root and debootstrap. What it makes lies below build/roots, and is used again
unless --fresh says otherwise.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evergreen_host.debian import sources
from evergreen_host.debian.sources import this_system

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "build" / "roots"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = "git,make,python3-venv"
# One file system: nothing that is mounted in the original.
_COPY = ("cp", "-a", "-x", "--reflink=auto")
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_PIP = ("/etc/pip.conf", "/etc/xdg/pip", "/root/.config/pip", "/root/.pip")
_ENV = ("PIP_", "SSL_", "REQUESTS_", "CURL_", "http_", "https_", "no_", "HTTP_", "HTTPS_", "NO_")
# /dev and /proc as a machine has them; all of it goes with the namespaces.
_ENTER = """
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 70
[ -d "$1/dev/shm" ] && mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
exec chroot "$1" /usr/bin/env --chdir="$2" sh -c "$3"
"""


def _command(*args: str | Path) -> None:
    subprocess.run([str(arg) for arg in args], check=True)


def _script(suite: str) -> Path:
    """Return debootstrap's script for a suite, which for every one that is younger than debootstrap is sid's."""
    known = _SCRIPTS / suite
    return known if known.exists() else _SCRIPTS / "sid"


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Return what /proc/self/mountinfo says is mounted below a folder, the last first."""
    points = [
        re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in mountinfo.splitlines()
    ]
    return [point for point in reversed(points) if folder in Path(point).parents]


def unmount_below(folder: Path) -> None:
    """Leave nothing mounted below a folder, so that it can be copied or removed."""
    for point in mounts_below(folder, Path("/proc/self/mountinfo").read_text("utf-8")):
        _command("umount", point)


def remove(folder: Path) -> None:
    """Remove a folder, and nothing that is mounted below it."""
    unmount_below(folder)
    if folder.exists():
        shutil.rmtree(folder)


def network_settings() -> dict[str, str]:
    """Return the variables by which this machine's pip and others reach what they install."""
    return {name: value for name, value in os.environ.items() if name.startswith(_ENV)}


class DebianRoot:
    """One root: a base of debootstrap with few packages, kept, and a copy of it that commands change.

    `name` tells the roots of one suite apart. Those that start with the same packages have the same base.
    """

    def __init__(self, suite: str, packages: str = NEEDED, name: str = "") -> None:
        self.suite = suite
        self._packages = packages
        self._base = FOLDER / "-".join([suite, "base", *([] if packages == NEEDED else packages.split(","))])
        self.path = FOLDER / (name or suite)

    def make(self, *, fresh: bool = False) -> None:
        """Make what is not there yet; a fresh one has had nothing installed in it but the packages it starts with."""
        if not (self._base / "etc/debian_version").exists():
            self._bootstrap()
        if fresh:
            remove(self.path)
        if not self.path.exists():
            unmount_below(self._base)  # also where an earlier version left something mounted
            _command(*_COPY, self._base, self.path)

    def _bootstrap(self) -> None:
        entry = sources.suite_entry(sources.read(), this_system().codename, self.suite, "deb")
        mirror = next(line.split()[1] for line in entry.splitlines() if line.startswith("URIs:"))
        remove(self._base)
        FOLDER.mkdir(parents=True, exist_ok=True)
        options = ["--variant=minbase", f"--include=ca-certificates,{self._packages}".rstrip(",")]
        try:
            _command("debootstrap", *options, self.suite, self._base, mirror, _script(self.suite))
        finally:
            unmount_below(self._base)  # debootstrap leaves /proc there, in which files are without end
        (self._base / "etc/apt/sources.list").unlink(missing_ok=True)
        (self._base / "etc/apt/sources.list.d/debian.sources").write_text(entry, "utf-8")
        (self._base / "etc/apt/apt.conf.d/mirror").write_text('Acquire::Check-Valid-Until "false";\n', "utf-8")
        self._bring_settings()

    def _bring_settings(self) -> None:
        """Certificates and pip's configuration: without them nothing is reached from where the machine is."""
        shutil.copy(BUNDLE, self._base / BUNDLE.relative_to("/"))
        for name in map(Path, _PIP):
            target = self._base / name.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if name.is_dir():
                shutil.copytree(name, target, dirs_exist_ok=True)
            elif name.exists():
                shutil.copy(name, target)

    def copy(self, name: str) -> "DebianRoot":
        """Return a copy of it as it is now, in place of an earlier one of that name."""
        other = DebianRoot(self.suite, self._packages, name)
        remove(other.path)
        _command(*_COPY, self.path, other.path)
        return other

    def clone_project(self) -> None:
        """Put a clean clone of the last commit at /srv/evergreen; the virtual environment of an earlier one stays."""
        target = self.path / "srv/evergreen"
        if (target / ".git").exists():
            _command("git", "-C", target, "fetch", "--quiet", PROJECT, "HEAD")
            _command("git", "-C", target, "reset", "--quiet", "--hard", "FETCH_HEAD")
        else:
            _command("git", "clone", "--quiet", PROJECT, target)

    def run(self, command: str, *, cwd: str = "/srv/evergreen", env: Mapping[str, str] | None = None) -> int:
        """Run a shell command in it as root; return its exit code."""
        with self.start(command, cwd=cwd, env=env) as running:
            return running.wait()

    def start(
        self, command: str, *, cwd: str = "/", env: Mapping[str, str] | None = None, **options: Any
    ) -> "subprocess.Popen[str]":
        """Start a shell command in it as root; what it started ends with it. `options` are Popen's."""
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "enter"]
        arguments = [*enter, str(self.path), cwd, command]
        return subprocess.Popen(arguments, env={**network_settings(), **clean, **(env or {})}, text=True, **options)


def main(arguments: Sequence[str]) -> int:
    """Make the root and run the command in it."""
    parser = argparse.ArgumentParser(description="run a command in a root of a Debian release")
    parser.add_argument("--fresh", action="store_true", help="throw away what earlier commands installed")
    parser.add_argument("--packages", default=NEEDED, help="what it starts with")
    parser.add_argument("suite")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    if shutil.which("debootstrap") is None:
        sys.exit("debootstrap is missing: apt-get install debootstrap")
    root = DebianRoot(asked.suite, asked.packages)
    root.make(fresh=asked.fresh)
    root.clone_project()
    return root.run(" ".join(asked.command) or "sh")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
