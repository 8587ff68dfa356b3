"""The operating system is told from os-release."""

from evergreen_host.debian import osrelease


def test_debian():
    system = osrelease.parse('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n')
    assert (system.has_apt, system.is_debian, system.codename) == (True, True, "bookworm")


def test_derivative_has_apt_but_is_not_debian():
    system = osrelease.parse("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n")
    assert (system.has_apt, system.is_debian) == (True, False)


def test_other_system_has_no_apt():
    assert not osrelease.parse('ID="fedora"\n').has_apt
    assert not osrelease.parse("").has_apt
