"""Queries and installs packages with apt and dpkg; PrivateApt leaves the system's state alone."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from evergreen_host.errors import CommandError
from evergreen_host.process import deferred_interrupts, run
from evergreen_host.report import Report

_DEFAULT_VERSION = re.compile(r"Depends: postgresql-(\d+)\b")


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not fully installed."""
    try:
        answer = run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", package])
    except CommandError:
        return None  # dpkg-query fails for unknown packages
    status, _, version = answer.partition(" ")
    return version if status == "installed" else None


def is_available(package: str) -> bool:
    """Return whether apt has a candidate for the package."""
    answer = run(["apt-cache", "policy", package])
    return "Candidate:" in answer and "Candidate: (none)" not in answer


def default_major() -> int | None:
    """Return the major version that the package `postgresql` depends on."""
    try:
        match = _DEFAULT_VERSION.search(run(["apt-cache", "depends", "postgresql"]))
    except CommandError:
        return None  # no package lists yet
    return int(match[1]) if match else None


@dataclass
class Apt:
    """Installs packages; updates the package lists at most once, and only before an installation."""

    report: Report
    _updated: bool = field(default=False, init=False)

    def update(self) -> None:
        """Update the package lists, once."""
        if not self._updated:
            self.report.busy("apt-get update")
            run(["apt-get", "update"], env=_environment())
            self._updated = True

    def can_install(self, package: str) -> bool:
        """Return whether apt can install the package; as root, unknown packages are looked up in updated lists."""
        if not is_available(package) and os.geteuid() == 0:
            self.update()
        return is_available(package)

    def install(self, packages: Sequence[str]) -> None:
        """Install packages from updated lists; outdated ones may name versions that no longer exist."""
        self.update()
        self.report.busy(f"installing {' '.join(packages)}")
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        run([*command, "--download-only"], env=_environment())
        with deferred_interrupts("apt, so that no package is left half installed"):
            run(command, env=_environment(), own_session=True)
        for package in packages:
            self.report.done(package, installed_version(package) or "")

    def download(self, package: str, folder: Path) -> Path:
        """Download a package that apt has verified into an empty folder, without installing it."""
        self.update()
        if os.geteuid() == 0:
            shutil.chown(folder, "_apt")  # apt fetches as this user
        run(["apt-get", "download", package], cwd=folder)
        (file,) = folder.glob("*.deb")
        return file


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


class PrivateApt:
    """apt-get with its state in one folder, and the system's sources unless others are given."""

    def __init__(self, root: Path, options: dict[str, str]) -> None:
        self.root = root
        self._options = {"Dir::State::Lists": str(root / "lists"), "Dir::Cache": str(root / "cache"), **options}

    @classmethod
    def create(cls, root: Path, *, entry: str | None = None, options: dict[str, str] | None = None) -> Self:
        """Create the folders in `root`; `entry`, in deb822 format, replaces the system's sources."""
        for name in ("sources.list.d", "lists/partial", "cache/archives/partial", "download"):
            (root / name).mkdir(parents=True)
        own = dict(options or {})
        if entry is not None:
            (root / "sources.list.d" / "own.sources").write_text(entry, "utf-8")
            own |= {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": str(root / "sources.list.d")}
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            if os.geteuid() == 0:
                shutil.chown(path, "_apt")  # apt fetches as this user
        return cls(root, own)

    def get(self, *args: str) -> str:
        """Run apt-get in the download folder and return its output."""
        options = [part for name, value in self._options.items() for part in ("-o", f"{name}={value}")]
        return run(["apt-get", *options, *args], cwd=self.root / "download")
