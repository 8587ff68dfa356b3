"""Builds pgvector from the signed source package of a newer Debian suite, if the distribution has no package."""

import tempfile
from pathlib import Path

from evergreen_host.debian import sources
from evergreen_host.debian.apt import Apt, PrivateApt
from evergreen_host.debian.sources import OsRelease
from evergreen_host.errors import EvergreenError
from evergreen_host.packaging.postgres import Postgres
from evergreen_host.process import deferred_interrupts, run

SUITE = "trixie"  # the first Debian release with a pgvector package


#: What building needs besides the server's headers.
BUILD_PACKAGES = ("gcc", "libc6-dev", "make", "dpkg-dev")


def _headers(postgres: Postgres, scratch: Path, apt_get: Apt) -> list[str]:
    """Return make variables for the server's headers: the installed ones, or else unpacked into `scratch`.

    Debian's package of them depends on clang and LLVM, hundreds of megabytes that building with gcc does not need.
    """
    if (postgres.include_dir / "postgres.h").exists():
        return []
    download, files = scratch / "download", scratch / "headers"
    download.mkdir()
    run(["dpkg-deb", "--extract", apt_get.download(f"postgresql-server-dev-{postgres.major}", download), files])
    return [f"includedir_server={files / postgres.include_dir.relative_to('/')}", "with_llvm=no"]


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


def build(postgres: Postgres, system: OsRelease, apt_get: Apt) -> None:
    """Fetch, build and install pgvector for that server."""
    report = apt_get.report
    entry = sources.suite_entry(sources.read(), system.codename, SUITE)
    with tempfile.TemporaryDirectory(prefix="evergreen-pgvector-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        report.busy(f"fetching pgvector's source package from {SUITE}")
        tree = _fetch_source(scratch, entry)
        report.busy(f"building pgvector for PostgreSQL {postgres.version}")
        make = [
            "make",
            f"PG_CONFIG={postgres.pg_config}",
            "OPTFLAGS=",  # no -march=native: the files may be copied to other machines
            *_headers(postgres, scratch, apt_get),
        ]
        run([*make, "-j2"], cwd=tree)
        with deferred_interrupts():
            run([*make, "install"], cwd=tree, own_session=True)
    report.done("pgvector", f"{postgres.vector_version} built from source")
