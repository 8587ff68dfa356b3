"""The project's sources as they are packed, and wheel and sdist built from them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "__pycache__", "*.py[co]", ".*_cache", ".hypothesis", ".ci"
)


def files(folder: Path) -> set[str]:
    """Every file below a folder of the project, leaving out what is no source, relative to it."""
    found: set[str] = set()
    for here, folders, names in os.walk(folder):
        left_out = LEFT_OUT(here, [*folders, *names])
        folders[:] = set(folders) - left_out
        found |= {Path(here, name).relative_to(folder).as_posix() for name in set(names) - left_out}
    return found


def build(tree: Path, *targets: str, umask: int = 0o022, **env: str) -> Path:
    """Build in `tree`, as a packager with that umask and environment; both unless one is named ("wheel", "sdist").

    Returns the folder that holds them.
    """
    kept = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = [sys.executable, "-m", "hatchling", "build", "--directory", tree / "out"]
    command += [part for target in targets for part in ("--target", target)]
    subprocess.run(command, cwd=tree, umask=umask, env={**kept, **env}, check=True, capture_output=True)
    return tree / "out"
