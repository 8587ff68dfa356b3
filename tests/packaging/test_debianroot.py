"""A root is copied and removed with nothing mounted in it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging import debianroot
from tests.packaging.debianroot import DebianRoot, mounts_below

MOUNTS = r"""
22 1 8:1 / / rw - ext4 /dev/sda1 rw
31 22 0:4 / /srv/base/proc rw - proc proc rw
32 31 0:5 / /srv/base/proc/sys/fs/binfmt_misc rw - binfmt_misc none rw
33 22 0:6 / /srv/base\040two/proc rw - proc proc rw
34 22 0:7 / /srv/based rw - tmpfs tmpfs rw
"""


def test_what_is_mounted_below_a_folder_is_found_innermost_first():
    assert mounts_below(Path("/srv/base"), MOUNTS.strip()) == ["/srv/base/proc/sys/fs/binfmt_misc", "/srv/base/proc"]


def test_blanks_in_a_path():
    assert mounts_below(Path("/srv/base two"), MOUNTS.strip()) == ["/srv/base two/proc"]


def can_mount() -> bool:
    """Whether this process may mount, as root in many containers may not."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What debootstrap leaves: a small root with a file system mounted in it, in which there are files."""
    monkeypatch.setattr(debianroot, "FOLDER", tmp_path)
    made = tmp_path / "trixie-base"
    (made / "etc").mkdir(parents=True)
    (made / "etc/debian_version").touch()
    (made / "proc").mkdir()
    mounted(made / "proc")
    yield made
    debianroot.unmount_below(tmp_path)


def mounted(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    (folder / "kcore").touch()


@pytest.mark.skipif(not can_mount(), reason="only root can mount")
def test_a_base_is_unmounted_before_it_is_copied(base: Path):
    root = DebianRoot("trixie")
    root.make()
    assert not (base / "proc").is_mount()
    assert [*(root.path / "proc").iterdir()] == []


@pytest.mark.skipif(not can_mount(), reason="only root can mount")
def test_a_copy_is_of_one_file_system_and_replaces_nothing_that_is_mounted(base: Path):
    root = DebianRoot("trixie")
    root.make()
    mounted(root.path / "proc")
    other = root.copy("other")
    assert [*(other.path / "proc").iterdir()] == []
    assert (root.path / "proc/kcore").exists()
    mounted(other.path / "proc")
    root.copy("other")
    assert not (other.path / "proc").is_mount()
    root.make(fresh=True)
    assert not (root.path / "proc").is_mount()
