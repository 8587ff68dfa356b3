"""Secrets by name: a file in the server's secret directory, or a variable of the server's environment."""

import os
import re
from pathlib import Path

from evergreen.errors import ConfigurationError

#: Root-owned, readable by the server; EVERGREEN_SECRETS in the server's environment names another place.
DIRECTORY = "/etc/evergreen/secrets"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}\Z")
#: Only variables of this prefix: a name must not reach the rest of the server's environment.
_PREFIX = "EVERGREEN_SECRET_"


def is_name(name: str) -> bool:
    """True when a text can be the name of a secret: it names a file, never a path."""
    return _NAME.match(name) is not None and ".." not in name


def value(name: str) -> str:
    """Return the value of a secret; the error names the secret and the places, never a value."""
    if not is_name(name):
        raise ConfigurationError(f'"{name}" cannot be the name of a secret')
    directory = Path(os.environ.get("EVERGREEN_SECRETS", DIRECTORY))
    try:
        return (directory / name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigurationError(f'secret "{name}" cannot be read: {error.strerror}') from None
    if _PREFIX + name in os.environ:
        return os.environ[_PREFIX + name].strip()
    raise ConfigurationError(f'secret "{name}" is neither a file in {directory} nor the variable {_PREFIX}{name}')
