"""Whether pg_hba.conf lets pg_cron's own connections in."""

import os
import pwd
from pathlib import Path

from evergreen import db
from evergreen.db.queries import load

SQL = load(__package__)
_LOCAL_HOSTS = {"localhost", "127.0.0.1"}
_PASSWORD_METHODS = {"scram-sha-256", "md5", "password"}
_USER_METHODS = {"peer", "ident"}


def obstacle(role: str, host: str | None) -> str | None:
    """Return why pg_cron cannot log a role in, or None; needs the extension's rights.

    ``host``: cron.host, where pg_cron connects to, or None if its version has no such setting.
    """
    by_socket = not host or host.startswith("/")
    if not (by_socket or host in _LOCAL_HOSTS) or not db.value(SQL.may_read_hba):
        return None
    row = db.one(SQL.authentication, role, by_socket)
    return None if row is None else refusal(str(row["method"]), int(row["line"]), role, mapped=bool(row["options"]))


def refusal(method: str, line: int, role: str, *, mapped: bool) -> str | None:
    """Say why a line of pg_hba.conf keeps a role's connections out; ``mapped``: it may name other system users."""
    where = f"line {line} of pg_hba.conf"
    if method == "reject":
        return f"{where} rejects it"
    if method in _PASSWORD_METHODS and not os.access(_password_file(), os.R_OK):
        return f"{where} asks for a password ({method}), and pg_cron has none"
    user = pwd.getpwuid(os.geteuid()).pw_name
    if method in _USER_METHODS and not mapped and role != user:
        return f'{where} ({method}) admits it as "{user}" only, not as "{role}"'
    return None


def _password_file() -> Path:
    """Return the file in which libpq looks for passwords."""
    return Path(os.environ.get("PGPASSFILE") or Path("~/.pgpass").expanduser())
