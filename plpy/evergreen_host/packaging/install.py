"""Installs the extension into a PostgreSQL installation, and uninstalls it."""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evergreen_host.errors import NotPermittedError
from evergreen_host.packaging import build, dist, library
from evergreen_host.packaging.postgres import Postgres, server_python
from evergreen_host.process import as_root
from evergreen_host.report import Report


@dataclass(frozen=True)
class Payload:
    """What to install: version, source folders, requirements of the server package."""

    version: str
    extension: Path
    package: Path
    requirements: list[str]


def own_payload() -> Payload:
    """Return the payload of this distribution."""
    return Payload(dist.version(), dist.extension_dir(), dist.server_package(), dist.server_requirements())


def library_root(postgres: Postgres) -> Path:
    """Return the folder with a library directory per installed version."""
    return postgres.libdir / "evergreen"


@contextmanager
def _world_readable() -> Generator[None, None, None]:
    """Override the umask, so the server's OS user can read the files."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _translate_permission_error(postgres: Postgres) -> Generator[None, None, None]:
    try:
        yield
    except PermissionError as error:
        raise NotPermittedError(
            f"no permission to write {error.filename}",
            f"run as the owner of {postgres.extension_dir}, usually {as_root('install')}",
        ) from error


def _check_writable(*folders: Path) -> None:
    """Raise PermissionError before any change."""
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _write_atomically(path: Path, content: str) -> None:
    """Write a file atomically: readers see the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content, "utf-8")
    temporary.replace(path)


def _install_library(postgres: Postgres, payload: Payload, report: Report) -> None:
    target = library_root(postgres) / payload.version
    python = server_python(postgres)
    name = f"server-side Python {python.version}"
    if not target.exists():
        _check_writable(postgres.libdir, postgres.extension_dir)
        report.busy(f"{name} and its packages into {target}")
    changed = library.install(target, payload.package, python, payload.requirements)
    if changed == "nothing":
        report.present(name)
    else:
        report.done(name, "with its packages" if changed == "all" else "(its packages are unchanged)")


def _install_extension(postgres: Postgres, payload: Payload, report: Report) -> None:
    target = library_root(postgres) / payload.version
    name, detail = f"extension evergreen {payload.version}", f"in PostgreSQL {postgres.version}"
    files = build.render(payload.extension, payload.version, target)
    folder = postgres.extension_dir
    changed = {
        path: content
        for path, content in ((folder / file, content) for file, content in files.items())
        if not path.exists() or path.read_text("utf-8") != content
    }
    for path, content in changed.items():
        _write_atomically(path, content)
    if changed:
        report.done(name, detail)
    else:
        report.present(name, detail)


def install(postgres: Postgres, payload: Payload, report: Report) -> None:
    """Install or upgrade in place; open sessions keep the loaded version until they reconnect.

    Files that are up to date are not written, which needs no permission.
    Raises MissingError without PL/Python, NotPermittedError without write permission.
    """
    with _translate_permission_error(postgres), _world_readable():
        _install_library(postgres, payload, report)
        _install_extension(postgres, payload, report)


def _extension_files(postgres: Postgres) -> list[Path]:
    folder = postgres.extension_dir
    return [
        *folder.glob("evergreen.control"),
        *sorted(folder.glob("evergreen--*.control")),
        *sorted(folder.glob("evergreen--*.sql")),
    ]


def uninstall(postgres: Postgres, report: Report) -> None:
    """Remove the files of all versions; databases keep their data."""
    files = _extension_files(postgres)
    root = library_root(postgres)
    with _translate_permission_error(postgres):
        for path in files:
            path.unlink()
        if root.exists():
            shutil.rmtree(root)
    report.done("uninstalled", f"{len(files)} extension files and {root}")
