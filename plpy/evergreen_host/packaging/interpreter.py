"""Finds which Python the server runs: the libpython that plpython3.so links against."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from evergreen_host.errors import EvergreenError, MissingError
from evergreen_host.packaging.postgres import Postgres
from evergreen_host.process import run

_LIBPYTHON = re.compile(r"libpython(\d+\.\d+)")


@dataclass(frozen=True)
class ServerPython:
    """The server's Python: its version 'X.Y', and the interpreter of that version if the machine has one."""

    version: str
    executable: Path | None

    @property
    def is_ours(self) -> bool:
        """Whether the interpreter that runs this has the same version."""
        return self.version == f"{sys.version_info.major}.{sys.version_info.minor}"


def linked_version(needed: str) -> str | None:
    """Return 'X.Y' from what a linker tool says about a library."""
    match = _LIBPYTHON.search(needed)
    return match[1] if match else None


def _system_executable(version: str) -> Path | None:
    """Prefer the distribution's own interpreter: it is built with the libpython the server loads."""
    for folder in ("/usr/bin", "/usr/local/bin"):
        found = Path(folder, f"python{version}")
        if found.exists():
            return found
    on_path = shutil.which(f"python{version}")
    return Path(on_path) if on_path else None


def server_python(postgres: Postgres) -> ServerPython:
    """Return the Python of that server.

    Raises MissingError if PL/Python is not installed.
    """
    library = postgres.plpython
    if not library.exists():
        raise MissingError(
            f"PL/Python is not installed for PostgreSQL {postgres.version}: no {library}",
            "run: evergreen setup",
        )
    version = linked_version(run(["ldd", library]))
    if version is None:
        raise EvergreenError(f"cannot tell which Python {library} is linked with")
    return ServerPython(version, _system_executable(version))
