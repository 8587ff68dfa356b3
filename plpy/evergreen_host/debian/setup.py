"""The steps of `evergreen setup`, in order: PostgreSQL, PL/Python, pg_cron, pgvector."""

import os
from pathlib import Path

from evergreen_host.debian import apt, pgvector
from evergreen_host.debian.sources import OsRelease, this_system
from evergreen_host.errors import EvergreenError, MissingError
from evergreen_host.packaging.postgres import DEBIAN_ROOT, Postgres, installed_servers
from evergreen_host.process import as_root
from evergreen_host.report import Report

#: Packages that only the tests need: debootstrap builds roots, prometheus has promtool.
TEST_PACKAGES = ("chromium", "debootstrap", "pgbouncer", "prometheus")
_MANUAL_HINT = "install PostgreSQL with PL/Python 3, pgvector and pg_cron, then run: evergreen install"


def _choose_version(requested: int | None, apt_get: apt.Apt) -> int:
    """Return the requested version, else the newest installed one, else apt's default."""
    if requested is not None:
        return requested
    packaged = (one for one in installed_servers() if one.bindir.is_relative_to(DEBIAN_ROOT))
    packaged_majors = [postgres.major for postgres in packaged]
    major = max(packaged_majors) if packaged_majors else apt.default_major()
    if major is None and os.geteuid() == 0:
        apt_get.update()
        major = apt.default_major()
    if major is None:
        raise MissingError("PostgreSQL is not installed", f"run: {as_root('setup')}")
    return major


def _packages(major: int) -> list[str]:
    return [f"postgresql-{major}", f"postgresql-plpython3-{major}", f"postgresql-{major}-cron"]


def _missing_packages(packages: list[str], report: Report) -> list[str]:
    """Report the installed packages and return the missing ones."""
    missing: list[str] = []
    for package in packages:
        version = apt.installed_version(package)
        if version is None:
            missing.append(package)
        else:
            report.present(package, version)
    return missing


def _require_root(missing: list[str], report: Report, command: str = "setup") -> None:
    if missing and os.geteuid() != 0:
        for package in missing:
            report.missing(package)
        raise MissingError(f"not installed: {' '.join(missing)}", f"run: {as_root(command)}")


def _postgres(major: int) -> Postgres:
    return Postgres(DEBIAN_ROOT / str(major) / "bin" / "pg_config")


def _ensure_packages(packages: list[str], apt_get: apt.Apt, command: str = "setup") -> None:
    missing = _missing_packages(packages, apt_get.report)
    _require_root(missing, apt_get.report, command)
    unknown = [package for package in missing if not apt_get.can_install(package)]
    if unknown:
        raise EvergreenError(
            f"apt offers no {' '.join(unknown)}",
            "choose another version with --pg-major, or add the PostgreSQL project's apt source",
        )
    if missing:
        apt_get.install(missing)


def _ensure_pgvector(major: int, system: OsRelease, apt_get: apt.Apt) -> None:
    """Keep an installed pgvector, else install its package, else build it."""
    postgres = _postgres(major)
    package = f"postgresql-{major}-pgvector"
    if postgres.vector_version:
        apt_get.report.present("pgvector", postgres.vector_version)
    elif apt_get.can_install(package):
        _ensure_packages([package], apt_get)
    elif not system.is_debian:
        raise MissingError(
            f"apt has no package {package}", "add the PostgreSQL project's apt source, or build pgvector"
        )
    else:
        _require_root(["pgvector"], apt_get.report)
        _ensure_packages([*pgvector.BUILD_PACKAGES], apt_get)
        pgvector.build(postgres, system, apt_get)


def setup(wanted_major: int | None, report: Report, *, for_tests: bool = False) -> int:
    """Install missing packages, with `for_tests` also those of the tests; return PostgreSQL's major version.

    As usual on Debian, a new PostgreSQL comes with a cluster `main`.
    Raises MissingError, which names what to install, if this command cannot install it.
    """
    system = this_system()
    if not system.has_apt or not Path("/usr/bin/apt-get").exists():
        raise MissingError(f"{system.name} has no apt; this command supports Debian and Ubuntu", _MANUAL_HINT)
    apt_get = apt.Apt(report)
    major = _choose_version(wanted_major, apt_get)
    _ensure_packages(_packages(major), apt_get)
    _ensure_pgvector(major, system, apt_get)
    if for_tests:
        _ensure_packages([*TEST_PACKAGES], apt_get, "setup --for-tests")
    return major
