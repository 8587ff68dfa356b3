"""A root is copied and removed with nothing mounted in it."""

from pathlib import Path

from tests.packaging.debianroot import mounts_below

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
