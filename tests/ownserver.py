"""A copy of the machine's Postgres, with the extension, whose files a test may spoil."""

import os
import shutil
from pathlib import Path

from evergreen_host.packaging import install
from evergreen_host.packaging.postgres import Postgres
from evergreen_host.report import Report


def copy_of(postgres: Postgres, folder: Path) -> Postgres:
    """Postgres finds its folders from where its programs lie, so they keep their places to each other."""
    places = [postgres.bindir, postgres.extension_dir.parent, postgres.libdir]
    common = Path(os.path.commonpath(places))
    for place in places:
        target, left_out = folder / place.relative_to(common), shutil.ignore_patterns("bitcode")
        shutil.copytree(place, target, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    own = Postgres(folder / postgres.bindir.relative_to(common) / "pg_config")
    install.install(own, install.own_payload(), Report())
    return own
