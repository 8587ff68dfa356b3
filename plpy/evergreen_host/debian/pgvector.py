"""Builds pgvector from the signed source package of a newer Debian suite, if the distribution has no package."""

import tempfile
from pathlib import Path

from evergreen_host.debian import sources
from evergreen_host.debian.apt import PrivateApt
from evergreen_host.debian.sources import OsRelease
from evergreen_host.errors import EvergreenError
from evergreen_host.packaging.postgres import Postgres
from evergreen_host.process import run
from evergreen_host.report import Report

SUITE = "trixie"  # the first Debian release with a pgvector package


def build_packages(major: int) -> list[str]:
    """Return the packages needed to build."""
    return [f"postgresql-server-dev-{major}", "gcc", "make", "dpkg-dev"]


def _fetch_source(scratch: Path, entry: str) -> Path:
    """Download and unpack pgvector's source package, verified by apt."""
    apt = PrivateApt.create(scratch / "apt", entry=entry)
    apt.get("update")
    apt.get("source", "--download-only", "pgvector")
    descriptions = sorted((apt.root / "download").glob("pgvector_*.dsc"))
    if len(descriptions) != 1:
        raise EvergreenError(f"the suite {SUITE} has no source package pgvector")
    tree = scratch / "pgvector"
    run(["dpkg-source", "--no-check", "--extract", descriptions[0], tree])
    return tree


def build(postgres: Postgres, system: OsRelease, report: Report) -> None:
    """Fetch, build and install pgvector for that server."""
    entry = sources.suite_entry(sources.read(), system.codename, SUITE)
    with tempfile.TemporaryDirectory(prefix="evergreen-pgvector-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        report.busy(f"fetching pgvector's source package from {SUITE}")
        tree = _fetch_source(scratch, entry)
        report.busy(f"building pgvector for PostgreSQL {postgres.version}")
        make = [
            "make",
            f"PG_CONFIG={postgres.pg_config}",
            "OPTFLAGS=",
        ]  # no -march=native: the files may be copied to other machines
        run([*make, "-j2"], cwd=tree)
        run([*make, "install"], cwd=tree)
    report.done("pgvector", f"{postgres.vector_version} built from source")
