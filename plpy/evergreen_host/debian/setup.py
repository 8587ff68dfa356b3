"""The steps of `evergreen setup`, in order: PostgreSQL, PL/Python, pg_cron, pgvector."""

import os
from pathlib import Path

from evergreen_host.debian import apt, pgvector
from evergreen_host.debian.sources import OsRelease, this_system
from evergreen_host.errors import EvergreenError, MissingError
from evergreen_host.packaging import postgres as pgconfig
from evergreen_host.packaging.postgres import Postgres
from evergreen_host.process import as_root
from evergreen_host.report import Report

#: What the tests run besides.
TEST_PACKAGES = ("pgbouncer",)
_BY_HAND = "install PostgreSQL with PL/Python 3, pgvector and pg_cron, then run: evergreen install"


def _choose_major(wanted: int | None, manager: apt.Apt) -> int:
    """Return the version asked for, else the newest that is installed, else the one apt offers."""
    if wanted is not None:
        return wanted
    packaged = (one for one in pgconfig.installed() if one.bindir.is_relative_to(pgconfig.DEBIAN_ROOT))
    there = [postgres.major for postgres in packaged]
    major = max(there) if there else apt.default_major()
    if major is None and os.geteuid() == 0:
        manager.update()
        major = apt.default_major()
    if major is None:
        raise MissingError("PostgreSQL is not installed", f"run: {as_root('setup')}")
    return major


def _packages(major: int) -> list[str]:
    return [f"postgresql-{major}", f"postgresql-plpython3-{major}", f"postgresql-{major}-cron"]


def _sort_out(packages: list[str], report: Report) -> list[str]:
    """Report the packages that are there and return the others."""
    lacking: list[str] = []
    for package in packages:
        version = apt.installed_version(package)
        if version is None:
            lacking.append(package)
        else:
            report.present(package, version)
    return lacking


def _stop_if_not_root(lacking: list[str], report: Report, command: str = "setup") -> None:
    if lacking and os.geteuid() != 0:
        for package in lacking:
            report.missing(package)
        raise MissingError(f"not installed: {' '.join(lacking)}", f"run: {as_root(command)}")


def _postgres(major: int) -> Postgres:
    return Postgres(pgconfig.DEBIAN_ROOT / str(major) / "bin" / "pg_config")


def _ensure_packages(packages: list[str], manager: apt.Apt, command: str = "setup") -> None:
    lacking = _sort_out(packages, manager.report)
    _stop_if_not_root(lacking, manager.report, command)
    unknown = [package for package in lacking if not manager.knows(package)]
    if unknown:
        raise EvergreenError(
            f"apt offers no {' '.join(unknown)}",
            "choose another version with --pg-major, or add the PostgreSQL project's apt source",
        )
    if lacking:
        manager.install(lacking)


def _ensure_pgvector(major: int, system: OsRelease, manager: apt.Apt) -> None:
    """Leave it if it is there; take the package if apt knows one; else build it."""
    postgres = _postgres(major)
    package = f"postgresql-{major}-pgvector"
    if postgres.vector_version:
        manager.report.present("pgvector", postgres.vector_version)
    elif manager.knows(package):
        _ensure_packages([package], manager)
    elif not system.is_debian:
        raise MissingError(f"apt offers no {package}", "add the PostgreSQL project's apt source, or build pgvector")
    else:
        _stop_if_not_root(["pgvector"], manager.report)
        _ensure_packages(pgvector.build_packages(major), manager)
        pgvector.build(postgres, system, manager.report)


def setup(wanted_major: int | None, report: Report, *, for_tests: bool = False) -> int:
    """Install what is missing, with what the tests run besides, and return PostgreSQL's major version.

    Debian's own behaviour is kept: a new PostgreSQL comes with its cluster `main`.
    Raises MissingError, naming what to install, where that cannot be done from here.
    """
    system = this_system()
    if not system.has_apt or not Path("/usr/bin/apt-get").exists():
        raise MissingError(f"{system.name} has no apt; this command knows Debian and Ubuntu", _BY_HAND)
    manager = apt.Apt(report)
    major = _choose_major(wanted_major, manager)
    _ensure_packages(_packages(major), manager)
    _ensure_pgvector(major, system, manager)
    if for_tests:
        _ensure_packages([*TEST_PACKAGES], manager, "setup --for-tests")
    return major
