"""Secrets by name: a file in the server's secret directory, or a variable of the server's environment."""

import grp
import os
import re
import shlex
import stat
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from evergreen.core.errors import ConfigurationError
from evergreen.core.frozen import frozen

#: Root-owned, readable by the server; EVERGREEN_SECRETS in the server's environment names another place.
DIRECTORY = "/etc/evergreen/secrets"
_PAGE = "docs/how-to/secrets.md"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}\Z")
#: Only variables of this prefix: a name must not reach the rest of the server's environment.
_PREFIX = "EVERGREEN_SECRET_"
_LONGEST = 8192  # bytes: what servers take as a header
_SHOWN = 8  # characters of a secret in a row that a message never holds


def is_name(name: str) -> bool:
    """Return whether a text can be the name of a secret: it names a file, never a path."""
    return _NAME.match(name) is not None and ".." not in name


def _directory() -> Path:
    return Path(os.environ.get("EVERGREEN_SECRETS", DIRECTORY))


@frozen
class Remedy:
    """The command that makes a secret usable."""

    command: str
    takes_key: bool  # by its input, on the server's machine; else it runs on the host of a container

    @property
    def hint(self) -> str:
        """Return a sentence with the command."""
        where = "Type the key into this command, on the server's machine" if self.takes_key else "Run as root"
        return f"{where}: {self.command}"


def remedy(name: str) -> Remedy:
    """Return what makes a secret usable where its directory is, which may be a mount that only the host can change."""
    directory = _directory()
    if _is_closed(directory):
        place = shlex.quote(str(directory))
        return Remedy(f"chmod 0755 {place} # if it is mounted: the directory on the host", takes_key=False)
    if _is_mounted_read_only():
        group = os.getegid()
        return Remedy(f"chown 0:{group} {name} && chmod 0440 {name} # on the host; see {_PAGE}", takes_key=False)
    place = shlex.quote(str(directory / name))
    return Remedy(f"install -m 0640 -o root -g {_group(os.getegid())} /dev/stdin {place}", takes_key=True)


def _is_closed(directory: Path) -> bool:
    """Return whether the server's user cannot enter a directory."""
    try:
        os.stat(f"{directory}/.")  # noqa: PTH116 - a Path would leave out the dot, for which one has to enter
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _is_mounted_read_only() -> bool:
    """Return whether nothing can be changed from within the container, as secrets are usually mounted."""
    try:
        return bool(os.statvfs(_directory()).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # as in a container whose user is a number only
        return str(number)


def value(name: str) -> str:
    """Return the value of a secret; the error names the secret and the places, never a value."""
    if not is_name(name):
        raise ConfigurationError("a secret cannot have such a name")  # it may be the key itself
    directory = _directory()
    found = _in_file(directory / name, name)
    if found is None and _PREFIX + name in os.environ:
        found = os.environb[os.fsencode(_PREFIX + name)]
    if found is None:
        raise ConfigurationError(f'secret "{name}" is neither a file in {directory} nor the variable {_PREFIX}{name}')
    # What is no ASCII or holds a line break would be shown by the error that refuses it as a header.
    key = found.strip().decode("ascii", "replace")
    if not key or not key.isascii() or not key.isprintable() or len(found) > _LONGEST:
        raise ConfigurationError(
            f'secret "{name}" cannot be a key: it must be one line of at most {_LONGEST} ASCII characters'
        )
    return key


def _in_file(path: Path, name: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f'secret "{name}" cannot be read: {error.strerror}{_whose(path, error)}') from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigurationError(f'secret "{name}" cannot be read: it is not a file')
        if state.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise ConfigurationError(f'secret "{name}" is refused: others may read or change its file; {_closed(path)}')
        return os.read(descriptor, _LONGEST + 1)
    finally:
        os.close(descriptor)


def _whose(path: Path, error: OSError) -> str:
    """Name the user for whom a directory or file is closed, if that is the error."""
    if not isinstance(error, PermissionError):
        return ""
    return f" (user {os.geteuid()} needs to enter {path.parent} and to read the file)"


def _closed(path: Path) -> str:
    """Say how to close a file to others."""
    if _is_mounted_read_only():
        return f"mount it with group {os.getegid()} and mode 0440, as it is read-only here"
    return f"chmod 0640 {path}, or 0600"


def masked(text: str, *keys: str | None) -> str:
    """Return a text with keys, and any considerable part of them, struck out."""
    hidden = bytearray(len(text))
    for key in filter(None, keys):
        size = min(_SHOWN, len(key))
        parts = {key[i : i + size] for i in range(len(key) - size + 1)}
        for i in range(len(text) - size + 1):
            if text[i : i + size] in parts:
                hidden[i : i + size] = b"\x01" * size
    runs = groupby(zip(text, hidden, strict=True), key=itemgetter(1))
    return "".join("***" if hide else "".join(character for character, _ in run) for hide, run in runs)
