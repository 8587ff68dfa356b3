"""`evergreen dashboard`, run as one runs it."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from evergreen_host.dashboard import start
from evergreen_host.errors import MissingError
from tests.fixtures.processes import running

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

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
        assert process.wait(30) in {0, -signal.SIGTERM}
        assert "Traceback" not in process.stderr.read()


def test_where_it_may_listen(dsn, tmp_path):
    done = run("--dsn", dsn, "--listen", "0.0.0.0:0")
    assert done.returncode == 1
    assert "other machines can reach 0.0.0.0, so the page needs a token" in done.stderr
    assert "--token-file" in done.stderr
    done = run("--dsn", dsn, "--listen", "0.0.0.0:0", "--token-file", str(tmp_path / "none"))
    assert "cannot be read" in done.stderr
    assert "openssl rand" in done.stderr


def test_what_is_wrong_is_said_in_a_line(cluster):
    for wrong, code in (("host=/nowhere", 1), (cluster.dsn("template1"), 3)):
        done = run("--dsn", wrong, "--listen", "127.0.0.1:0")
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(MissingError, match="the dashboard needs the package starlette") as raised:
        start.serve_dashboard("", "127.0.0.1:0", (), read_only=True, token_file=None)
    assert raised.value.hint == "run: pip install 'pg-evergreen[dashboard]'"
