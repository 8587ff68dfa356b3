"""Finds PostgreSQL installations, their directories, and the Python of PL/Python."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evergreen_host.errors import CommandError, EvergreenError, MissingError
from evergreen_host.process import run

DEBIAN_ROOT = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Postgres:
    """One PostgreSQL installation, described by its pg_config."""

    pg_config: Path

    def _pg_config(self, option: str) -> str:
        return run([self.pg_config, option]).strip()

    @cached_property
    def version(self) -> str:
        """The version without the distribution's suffix, e.g. '15.18'."""
        return self._pg_config("--version").split()[1]

    @property
    def major(self) -> int:
        """The major version."""
        match = re.match(r"\d+", self.version)
        if match is None:
            raise EvergreenError(f"{self.pg_config} reports version {self.version!r}")
        return int(match[0])

    @cached_property
    def bindir(self) -> Path:
        """The directory of initdb, pg_ctl and postgres."""
        return Path(self._pg_config("--bindir"))

    @cached_property
    def extension_dir(self) -> Path:
        """The directory of control files and scripts."""
        return Path(self._pg_config("--sharedir")) / "extension"

    @cached_property
    def libdir(self) -> Path:
        """The directory of shared libraries, and of our server-side Python."""
        return Path(self._pg_config("--pkglibdir"))

    @property
    def include_dir(self) -> Path:
        """The directory of the server's headers, which may not be installed."""
        return Path(self._pg_config("--includedir-server"))

    @property
    def has_server(self) -> bool:
        """Whether the server is installed, not just client development files."""
        return (self.bindir / "postgres").exists()

    @property
    def plpython(self) -> Path:
        """The path of the PL/Python library, which may not exist."""
        return self.libdir / "plpython3.so"

    @property
    def has_cron(self) -> bool:
        """Whether pg_cron can be preloaded."""
        return (self.libdir / "pg_cron.so").exists()

    @property
    def vector_version(self) -> str | None:
        """The installed version of pgvector, or None."""
        control = self.extension_dir / "vector.control"
        if not control.exists():
            return None
        match = re.search(r"default_version\s*=\s*'([^']+)'", control.read_text("utf-8"))
        return match[1] if match else "unknown"


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("pg_config")
    if on_path:
        yield Path(on_path)
    majors = (entry for entry in DEBIAN_ROOT.glob("*") if entry.name.isdigit())
    for entry in sorted(majors, key=lambda entry: int(entry.name), reverse=True):
        yield entry / "bin" / "pg_config"


def _as_server(pg_config: Path) -> Postgres | None:
    """Return the installation if it has a server; Debian's pg_config can exist without one."""
    postgres = Postgres(pg_config)
    try:
        return postgres if postgres.has_server else None
    except (CommandError, MissingError):
        return None


def installed_servers() -> list[Postgres]:
    """Return the installations with a server: the one on PATH first, then Debian's, newest first."""
    found = [postgres for path in _candidates() if (postgres := _as_server(path))]
    return list({postgres.bindir: postgres for postgres in found}.values())


def find_postgres(pg_config: Path | None = None) -> Postgres:
    """Return the installation to use: the one named (or in $PG_CONFIG), else one with PL/Python, else any.

    Raises MissingError if there is none.
    """
    explicit = pg_config or (Path(os.environ["PG_CONFIG"]) if os.environ.get("PG_CONFIG") else None)
    if explicit:
        resolved = shutil.which(str(explicit))
        if resolved is None:
            raise MissingError(f"no such pg_config: {explicit}", "find it with: ls /usr/lib/postgresql/*/bin/pg_config")
        return Postgres(Path(resolved))
    servers = installed_servers()
    if not servers:
        raise MissingError("no PostgreSQL server found", "run: evergreen setup")
    return next((postgres for postgres in servers if postgres.plpython.exists()), servers[0])


_LIBPYTHON = re.compile(r"libpython(\d+\.\d+)")


@dataclass(frozen=True)
class ServerPython:
    """The server's Python: version 'X.Y', and an interpreter of that version if one is installed."""

    version: str
    executable: Path | None

    @property
    def is_ours(self) -> bool:
        """Whether the current interpreter has the same version."""
        return self.version == f"{sys.version_info.major}.{sys.version_info.minor}"


def linked_version(needed: str) -> str | None:
    """Return the 'X.Y' of libpython in the output of ldd."""
    match = _LIBPYTHON.search(needed)
    return match[1] if match else None


def _system_executable(version: str) -> Path | None:
    """Prefer the distribution's interpreter, which matches the libpython that the server loads."""
    for folder in ("/usr/bin", "/usr/local/bin"):
        found = Path(folder, f"python{version}")
        if found.exists():
            return found
    on_path = shutil.which(f"python{version}")
    return Path(on_path) if on_path else None


def server_python(postgres: Postgres) -> ServerPython:
    """Return the Python that PL/Python links; raises MissingError if PL/Python is not installed."""
    library = postgres.plpython
    if not library.exists():
        raise MissingError(
            f"PL/Python is not installed for PostgreSQL {postgres.version}: no {library}",
            "run: evergreen setup",
        )
    version = linked_version(run(["ldd", library]))
    if version is None:
        raise EvergreenError(f"{library} is linked with no libpython")
    return ServerPython(version, _system_executable(version))
