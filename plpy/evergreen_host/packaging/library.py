"""Installs the server package and its dependencies into a library directory that only the installer can write."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Literal

from evergreen_host.errors import MissingError
from evergreen_host.packaging.postgres import ServerPython
from evergreen_host.process import run

Change = Literal["all", "package", "nothing"]  # what was written

_PACKAGE = "evergreen"
_STAMP_FILE = "evergreen-install.json"
_EXCLUDED = shutil.ignore_patterns("__pycache__", "*.pyc", "tests", "test_*")


def _stamp(python: ServerPython, requirements: list[str]) -> str:
    return json.dumps({"python": python.version, "requirements": requirements}, indent=1)


def _is_current(target: Path, stamp: str) -> bool:
    path = target / _STAMP_FILE
    return path.is_file() and path.read_text("utf-8") == stamp


def _pip(python: ServerPython) -> list[str | Path]:
    """Return a pip command that resolves for the server's Python, run by that Python if it is installed."""
    if util.find_spec("pip") is None:
        raise MissingError(
            f"{sys.executable} has no pip",
            f"run: {sys.executable} -m ensurepip",
        )
    pip: list[str | Path] = [sys.executable, "-m", "pip"]
    if python.is_ours:
        return [*pip, "install"]
    if python.executable:
        return [*pip, "--python", python.executable, "install"]
    return [*pip, "install", "--python-version", python.version, "--implementation", "cp"]


def install_requirements(target: Path, python: ServerPython, requirements: list[str]) -> None:
    """Install the requirements as wheels into `target`, with the system's pip configuration."""
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:", "--target", target]
    hint = f"pip must find a wheel for Python {python.version} of each package and its dependencies"
    run([*_pip(python), *options, *requirements], hint=hint)
    shutil.rmtree(target / "bin", ignore_errors=True)


def copy_package(source: Path, target: Path) -> None:
    """Copy the server package without tests and bytecode, readable by all."""
    shutil.copytree(source, target, ignore=_EXCLUDED, dirs_exist_ok=True)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _compile(folder: Path, target: Path, python: ServerPython) -> None:
    """Write bytecode with paths in `target`; the server cannot write it, and would compile in every session."""
    if python.executable:
        options = ["-q", "-j", "0", "-s", folder, "-p", target]
        run([python.executable, "-m", "compileall", *options, folder])


def _swap(stage: Path, target: Path) -> None:
    """Replace `target` by `stage`; on failure the old `target` is restored."""
    old = stage.with_name(f"{stage.name}-old")
    if target.exists():
        target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _staging_folder(target: Path) -> Generator[Path, None, None]:
    """Yield a folder next to `target`, then move it into place; after an error nothing has changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    stage.chmod(0o755)
    try:
        yield stage
        _swap(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the files that `copy_package` copies, by relative path."""
    found: dict[str, bytes] = {}
    for here, folders, names in os.walk(folder):
        excluded = _EXCLUDED(here, [*folders, *names])
        folders[:] = [name for name in folders if name not in excluded]
        for name in set(names) - excluded:
            path = Path(here, name)
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def install(target: Path, package: Path, python: ServerPython, requirements: list[str]) -> Change:
    """Install package and requirements into `target`; write only what has changed."""
    stamp = _stamp(python, requirements)
    if not _is_current(target, stamp):
        with _staging_folder(target) as stage:
            install_requirements(stage, python, requirements)
            copy_package(package, stage / _PACKAGE)
            _compile(stage, target, python)
            (stage / _STAMP_FILE).write_text(stamp, "utf-8")
        return "all"
    if _contents(package) == _contents(target / _PACKAGE):
        return "nothing"
    with _staging_folder(target / _PACKAGE) as stage:
        copy_package(package, stage)
        _compile(stage, target / _PACKAGE, python)
    return "package"
