"""The source entry of a newer suite is derived from the machine's own apt configuration."""

from pathlib import Path

import pytest

from evergreen_host.debian import sources
from evergreen_host.errors import EvergreenError

DEB822 = """\
# the distribution
Types: deb
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

DERIVED = """\
Types: deb-src
URIs: http://mirror.test/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def derive(entries: list[sources.Source]) -> str:
    return sources.suite_entry(entries, "bookworm", "trixie")


def test_deb822_entry_keeps_archive_and_key():
    assert derive(sources.parse_deb822(DEB822)) == DERIVED


def test_one_line_entry_gives_the_same_as_deb822():
    options = "[ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ]"
    line = f"deb {options} http://mirror.test/debian bookworm main\n"
    assert derive(sources.parse_one_line(line)) == DERIVED


def test_one_line_entry_without_options_has_no_key():
    entry = derive(sources.parse_one_line("deb http://mirror.test/debian bookworm main contrib # a comment\n"))
    assert entry == "Types: deb-src\nURIs: http://mirror.test/debian\nSuites: trixie\nComponents: main\n"


def test_dated_archive_path_is_kept():
    line = "deb http://mirror.test/archive/debian/20250520T000000Z bookworm main\n"
    assert "URIs: http://mirror.test/archive/debian/20250520T000000Z\n" in derive(sources.parse_one_line(line))


def test_embedded_key_is_kept_word_for_word():
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----"
    text = f"Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\nSigned-By:{key}\n"
    assert f"Signed-By: {key}\n" in derive(sources.parse_deb822(text))


def test_suite_that_only_resembles_the_release_is_no_candidate():
    vendors = "deb http://vendor.test/apt tools-bookworm main\ndeb http://vendor.test/pg bookworm-pgdg main\n"
    with pytest.raises(EvergreenError, match="has bookworm main"):
        derive(sources.parse_one_line(vendors))


def test_entry_signed_by_the_archive_wins_over_a_vendor_with_the_same_suite():
    vendor = sources.parse_one_line("deb [signed-by=/etc/apt/keyrings/v.gpg] http://vendor.test/apt bookworm main\n")
    assert derive(vendor + sources.parse_deb822(DEB822)) == DERIVED


def test_release_may_be_called_by_its_role():
    assert "http://mirror.test/debian" in derive(sources.parse_one_line("deb http://mirror.test/debian stable main\n"))


def test_disabled_entry_is_left_out():
    assert sources.parse_deb822("Enabled: no\n" + DEB822.partition("\n")[2])[0].suites == ("bookworm-security",)


def test_read_takes_both_formats_and_nothing_else(tmp_path: Path):
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.test/debian bookworm main\n")
    (parts / "debian.sources").write_text(DEB822)
    (parts / "old.list.save").write_text("deb http://saved.test/debian bookworm main\n")
    (parts / "off.list").write_text("# deb http://off.test/debian bookworm main\n")
    uris = [source.uris[0] for source in sources.read(tmp_path)]
    assert uris == ["http://one.test/debian", "http://mirror.test/debian", "http://mirror.test/debian-security"]
