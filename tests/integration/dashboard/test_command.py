"""`evergreen dashboard`, run as one runs it."""

import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evergreen_host import cli
from evergreen_host.dashboard import start
from evergreen_host.errors import MissingError
from tests.fixtures.processes import running
from tools.paths import DOCS

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

HOW_TO = DOCS / "how-to" / "dashboard.md"
EVERGREEN = Path(sys.executable).with_name("evergreen")


def run(*args):
    return subprocess.run([EVERGREEN, "dashboard", *args], capture_output=True, text=True, timeout=120, check=False)


def test_it_serves_until_it_is_told_to_end(dsn, docs):
    command = [EVERGREEN, "dashboard", "--dsn", dsn, "--listen", "127.0.0.1:0", "--read-only"]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(address, timeout=30) as answer:
            text = answer.read().decode()
        assert "No pipelines" in text
        port = address.rsplit(":", 1)[1].strip("/")
        taken = run("--dsn", dsn, "--listen", f"127.0.0.1:{port}")
        assert (taken.returncode, "cannot listen on 127.0.0.1" in taken.stderr) == (1, True)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(30), process.stderr.read()) == (0, "")


def test_where_it_may_listen(dsn, tmp_path):
    done = run("--dsn", dsn, "--listen", "0.0.0.0:0")
    assert done.returncode == 1
    assert "other machines can reach 0.0.0.0, so the page needs a token" in done.stderr
    assert "--token-file" in done.stderr
    done = run("--dsn", dsn, "--listen", "0.0.0.0:0", "--token-file", str(tmp_path / "none"))
    assert "cannot be read" in done.stderr
    assert "openssl rand" in done.stderr


def test_with_a_token_as_the_page_says(dsn, tmp_path):
    (made,) = re.findall(r"^\(umask .*dashboard-token\)$", HOW_TO.read_text("utf-8"), re.MULTILINE)
    subprocess.run(["bash", "-c", made], cwd=tmp_path, check=True)
    command = [EVERGREEN, "dashboard", "--dsn", dsn, "--listen", "0.0.0.0:0", "--token-file", "dashboard-token"]
    with running(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[-1].replace("0.0.0.0", "127.0.0.1")
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.url.endswith("/login")


def test_the_example_for_systemd_is_understood():
    """And it comes with the package: the file is next to the module."""
    parsed = ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    parsed.read_string(Path(start.__file__).with_name("evergreen-dashboard.service").read_text("utf-8"))
    command = shlex.split(parsed["Service"]["ExecStart"])
    known = CliRunner().invoke(cli.app, [command[1], "--help"]).output
    assert command[1] == "dashboard"
    assert all(word in known for word in command if word.startswith("--"))


def test_what_is_wrong_is_said_in_a_line(cluster):
    for wrong, code in (("host=/nowhere", 1), (cluster.dsn("template1"), 3)):
        done = run("--dsn", wrong, "--listen", "127.0.0.1:0")
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(MissingError, match="the dashboard needs the package starlette") as raised:
        start.serve_dashboard("", "127.0.0.1:0", (), read_only=True, token_file=None)
    assert raised.value.hint == "run: pip install 'pg-evergreen[dashboard]'"
