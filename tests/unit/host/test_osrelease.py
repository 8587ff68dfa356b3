"""The operating system is told from os-release."""

from evergreen_host.debian import sources


def test_debian():
    system = sources.parse_os_release(
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
    )
    assert (system.has_apt, system.is_debian, system.codename) == (True, True, "bookworm")


def test_derivative_has_apt_but_is_not_debian():
    system = sources.parse_os_release("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n")
    assert (system.has_apt, system.is_debian) == (True, False)


def test_other_system_has_no_apt():
    assert not sources.parse_os_release('ID="fedora"\n').has_apt
    assert not sources.parse_os_release("").has_apt
