"""The command line's exit codes and what it prints."""

import json
import os
import sys
from pathlib import Path

import pytest

from evergreen_host import cli
from evergreen_host.debian import apt, setup, sources
from evergreen_host.packaging import install as installer
from evergreen_host.packaging import library
from evergreen_host.packaging.install import Payload
from evergreen_host.packaging.postgres import Postgres


@pytest.fixture
def evergreen(monkeypatch: pytest.MonkeyPatch):
    """Run the command with arguments and return its exit code."""

    def call(*args: str) -> int:
        monkeypatch.setattr(sys, "argv", ["evergreen", *args])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return int(exit_.value.code or 0)

    return call


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch):
    """A Debian with nothing installed, seen by an ordinary user."""
    monkeypatch.setattr(apt, "installed_version", lambda _: None)
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)


def test_unknown_command_is_wrong_usage(evergreen):
    assert evergreen("no-such-command") == 2


def test_setup_without_root_names_what_is_missing(evergreen, bare_machine, capsys):
    assert evergreen("setup", "--pg-major", "15") == 3
    printed = capsys.readouterr()
    assert "-- postgresql-plpython3-15" in printed.out
    assert "sudo evergreen setup" in printed.err


def test_setup_as_json_is_one_object_even_when_it_fails(evergreen, bare_machine, capsys):
    assert evergreen("setup", "--pg-major", "15", "--json") == 3
    result = json.loads(capsys.readouterr().out)
    assert {"name": "postgresql-15-cron", "state": "missing", "detail": ""} in result["steps"]


def test_setup_on_another_system_says_what_to_install(evergreen, monkeypatch, capsys):
    monkeypatch.setattr(
        setup, "this_system", lambda: sources.parse_os_release("NAME=Fedora\nID=fedora\nPRETTY_NAME=Fedora\n")
    )
    assert evergreen("setup") == 3
    assert "pgvector" in capsys.readouterr().err


def test_install_with_a_wrong_pg_config(evergreen, tmp_path: Path, capsys):
    assert evergreen("install", "--pg-config", str(tmp_path / "nope")) == 3
    assert "no such pg_config" in capsys.readouterr().err


def test_install_and_uninstall_report_as_json(evergreen, scratch: Postgres, payload: Payload, monkeypatch, capsys):
    monkeypatch.setattr(installer, "own_payload", lambda: payload)
    monkeypatch.setattr(library, "install_requirements", lambda *_: None)
    assert evergreen("install", "--pg-config", str(scratch.pg_config), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pg_config"] == str(scratch.pg_config)
    assert [step["state"] for step in result["steps"]] == ["done", "done"]
    assert evergreen("install", "--uninstall", "--pg-config", str(scratch.pg_config)) == 0
    assert not (scratch.libdir / "evergreen").exists()


def test_install_without_permission(evergreen, scratch: Postgres, payload: Payload, monkeypatch, capsys):
    monkeypatch.setattr(installer, "own_payload", lambda: payload)
    monkeypatch.setattr(installer.os, "access", lambda _, mode: mode != os.W_OK)
    assert evergreen("install", "--pg-config", str(scratch.pg_config)) == 4
    assert "sudo evergreen install" in capsys.readouterr().err
