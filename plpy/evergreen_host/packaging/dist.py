"""The contents of this distribution: version, SQL, server package, requirements."""

import re
from importlib import metadata
from pathlib import Path

from evergreen_host.errors import EvergreenError

DISTRIBUTION = "pg-evergreen"
_HERE = Path(__file__).resolve().parents[1]
_EXTRA = re.compile(r"""extra\s*==\s*['"]server['"]""")


def version() -> str:
    """Return the version of the distribution and of the extension."""
    return metadata.version(DISTRIBUTION)


def extension_dir() -> Path:
    """Return the folder of the extension's SQL, in a wheel or in a source checkout."""
    packaged = _HERE / "_extension"
    found = packaged if packaged.is_dir() else _HERE.parents[1] / "extension"
    if not found.is_dir():
        raise EvergreenError(
            f"the extension's SQL is missing: no {found}", "run: pip install --force-reinstall pg-evergreen"
        )
    return found


def server_package() -> Path:
    """Return the folder of the server package `evergreen`."""
    found = _HERE.parent / "evergreen"
    if not (found / "__init__.py").is_file():
        raise EvergreenError(
            f"the server package is missing: no {found}", "run: pip install --force-reinstall pg-evergreen"
        )
    return found


def server_requirements() -> list[str]:
    """Return the sorted requirements of the extra `server`."""
    wanted: list[str] = []
    for requirement in metadata.requires(DISTRIBUTION) or []:
        spec, _, marker = requirement.partition(";")
        if _EXTRA.search(marker):
            wanted.append(spec.strip())
    return sorted(wanted)
