"""An apt with lists of its own: what it fetches leaves the machine's configuration and lists as they are."""

import os
import shutil
from pathlib import Path
from typing import Self

from evergreen_host.process import run


class PrivateApt:
    """apt-get with its state below one folder; the machine's sources unless others are given."""

    def __init__(self, root: Path, options: dict[str, str]) -> None:
        self.root = root
        self._options = {"Dir::State::Lists": str(root / "lists"), "Dir::Cache": str(root / "cache"), **options}

    @classmethod
    def create(cls, root: Path, *, entry: str | None = None, options: dict[str, str] | None = None) -> Self:
        """Lay out the folders below `root`; `entry`, deb822 text, stands instead of the machine's sources."""
        for name in ("sources.list.d", "lists/partial", "cache/archives/partial", "download"):
            (root / name).mkdir(parents=True)
        own = dict(options or {})
        if entry is not None:
            (root / "sources.list.d" / "own.sources").write_text(entry, "utf-8")
            own |= {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": str(root / "sources.list.d")}
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            if os.geteuid() == 0:
                shutil.chown(path, "_apt")  # apt fetches as this user
        return cls(root, own)

    def get(self, *args: str) -> str:
        """Run apt-get with these settings, in the download folder, and return what it prints."""
        options = [part for name, value in self._options.items() for part in ("-o", f"{name}={value}")]
        return run(["apt-get", *options, *args], cwd=self.root / "download")
