"""Puts the server package and its dependencies into a library directory only the installer may write."""

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

Change = Literal["all", "package", "nothing"]  # what an installation had to write

_PACKAGE = "evergreen"
_STAMP_FILE = "evergreen-install.json"
_EXCLUDED = shutil.ignore_patterns("__pycache__", "*.pyc", "tests", "test_*")


def _stamp(python: ServerPython, requirements: list[str]) -> str:
    return json.dumps({"python": python.version, "requirements": requirements}, indent=1)


def _is_current(target: Path, stamp: str) -> bool:
    path = target / _STAMP_FILE
    return path.is_file() and path.read_text("utf-8") == stamp


def _pip(python: ServerPython) -> list[str | Path]:
    """Return the pip command that resolves for the server's Python, run by that Python where there is one."""
    if util.find_spec("pip") is None:
        raise MissingError(
            f"there is no pip beside {sys.executable}",
            f"install evergreen into an environment that has one, or run: {sys.executable} -m ensurepip",
        )
    pip: list[str | Path] = [sys.executable, "-m", "pip"]
    if python.is_ours:
        return [*pip, "install"]
    if python.executable:
        return [*pip, "--python", python.executable, "install"]
    return [*pip, "install", "--python-version", python.version, "--implementation", "cp"]


def install_requirements(target: Path, python: ServerPython, requirements: list[str]) -> None:
    """Let pip, as the machine configures it, put the requirements as wheels into `target`."""
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:", "--target", target]
    hint = f"each package, and what it needs, must have a wheel for Python {python.version} where pip looks for it"
    run([*_pip(python), *options, *requirements], hint=hint)
    shutil.rmtree(target / "bin", ignore_errors=True)


def copy_package(source: Path, target: Path) -> None:
    """Copy the server package's modules and SQL, nothing else, readable by all."""
    shutil.copytree(source, target, ignore=_EXCLUDED, dirs_exist_ok=True)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _compile(folder: Path, target: Path, python: ServerPython) -> None:
    """Leave bytecode that names `target` as its place: the server cannot write it, and would compile every time."""
    if python.executable:
        options = ["-q", "-j", "0", "-s", folder, "-p", target]
        run([python.executable, "-m", "compileall", *options, folder])


def _swap(stage: Path, target: Path) -> None:
    """Put `stage` where `target` is; an old `target` goes, or comes back if that fails."""
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
    """Give a folder beside `target` to fill, then put it in its place; on an error nothing has changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    stage.chmod(0o755)
    try:
        yield stage
        _swap(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _contents(folder: Path) -> dict[str, bytes]:
    """Return what `copy_package` copies: file name to content."""
    found: dict[str, bytes] = {}
    for here, folders, names in os.walk(folder):
        excluded = _EXCLUDED(here, [*folders, *names])
        folders[:] = [name for name in folders if name not in excluded]
        for name in set(names) - excluded:
            path = Path(here, name)
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def install(target: Path, package: Path, python: ServerPython, requirements: list[str]) -> Change:
    """Make `target` hold the package and its requirements, doing no more than is needed for that."""
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
