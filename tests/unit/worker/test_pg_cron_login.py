"""Which lines of pg_hba.conf keep pg_cron's connections out."""

import os
import pwd
from pathlib import Path

import pytest

from evergreen.worker.pg_cron_login import refusal

SERVER = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(autouse=True)
def passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The password file of the server's user, which is not there yet."""
    file = tmp_path / "pgpass"
    monkeypatch.setenv("PGPASSFILE", str(file))
    return file


@pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
def test_a_password_that_pg_cron_has_not(method: str, passwords: Path):
    said = refusal(method, 7, "alice", mapped=False)
    assert said is not None
    assert "line 7 of pg_hba.conf" in said
    assert method in said
    passwords.touch()
    assert refusal(method, 7, "alice", mapped=False) is None


@pytest.mark.parametrize(
    ("method", "role", "mapped", "refused"),
    [
        ("peer", SERVER, False, False),
        ("peer", "alice", False, True),
        ("ident", "alice", False, True),
        ("peer", "alice", True, False),
        ("trust", "alice", False, False),
        ("reject", SERVER, False, True),
    ],
)
def test_other_methods(method: str, role: str, mapped: bool, refused: bool):
    assert (refusal(method, 1, role, mapped=mapped) is not None) == refused
