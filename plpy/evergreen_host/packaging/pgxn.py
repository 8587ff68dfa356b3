"""Writes META.json for PGXN: ``python -m evergreen_host.packaging.pgxn > META.json``."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from evergreen_host.errors import EvergreenError
from evergreen_host.packaging import dist

_CONTROL = "extension/evergreen.control.in"
_REQUIRES = re.compile(r"^requires = '(.+)'$", re.MULTILINE)
_LICENSES = {"PostgreSQL": "postgresql"}  # SPDX's name: PGXN's
# Minimum versions; other requirements of the control file may have any version.
_MIN_VERSIONS = {"PostgreSQL": "15.0.0", "vector": "0.8.0"}
_RECOMMENDED = {"pg_cron": "1.4.0"}
_SPEC = {"version": "1.0.0", "url": "https://pgxn.org/meta/spec.txt"}


def _required(control: str) -> dict[str, str | int]:
    match = _REQUIRES.search(control)
    if match is None:
        raise EvergreenError(f"{_CONTROL} has no line requires")
    return {name: _MIN_VERSIONS.get(name, 0) for name in ("PostgreSQL", *re.split(r"\s*,\s*", match[1]))}


def semantic(version: str) -> str:
    """Return a version of Python's form in that of semver.org, which PGXN wants: 0.3.0.dev0 as 0.3.0-dev0."""
    return version.replace(".dev", "-dev")


def describe(about: metadata.PackageMetadata, control: str) -> dict[str, Any]:
    """Return the content of META.json, version 1.0.0 of its specification."""
    abstract, version = about["Summary"], semantic(about["Version"])
    return {
        "name": about["Name"],
        "abstract": abstract,
        "version": version,
        "maintainer": about["Author"],
        "license": _LICENSES[about["License-Expression"]],
        "provides": {
            "evergreen": {"abstract": abstract, "file": _CONTROL, "docfile": "README.md", "version": version},
        },
        "prereqs": {"runtime": {"requires": _required(control), "recommends": _RECOMMENDED}},
        "tags": about["Keywords"].split(","),
        "generated_by": "python -m evergreen_host.packaging.pgxn",
        "meta-spec": _SPEC,
    }


def main() -> None:
    """Print META.json."""
    control = dist.extension_dir() / Path(_CONTROL).name
    meta = describe(metadata.metadata(dist.DISTRIBUTION), control.read_text("utf-8"))
    json.dump(meta, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
