"""A throw-away cluster lives, crashes, comes back, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.errors import CommandError

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

HOLD_A_CLUSTER = """\
import sys
from evergreen_host.cluster import Cluster
with Cluster() as cluster:
    print(cluster.root, cluster.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(options={"work_mem": "7MB"}, env={"EVERGREEN_PROBE": "it's here"}) as cluster:
        yield cluster


def ask(cluster: Cluster, query: str) -> object:
    with psycopg.connect(cluster.dsn()) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def is_running(pid: int | None) -> bool:
    """A zombie process has no command line."""
    cmdline = Path(f"/proc/{pid}/cmdline")
    return cmdline.exists() and cmdline.read_bytes() != b""


def test_listens_on_its_own_socket_only(cluster: Cluster):
    assert ask(cluster, "SHOW listen_addresses") == ""
    assert ask(cluster, "SHOW unix_socket_directories") == str(cluster.root)


def test_speaks_utf8(cluster: Cluster):
    assert ask(cluster, "SHOW server_encoding") == "UTF8"


def test_options_win_over_defaults(cluster: Cluster):
    assert ask(cluster, "SHOW work_mem") == "7MB"


def test_environment_is_added_and_python_settings_do_not_leak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with Cluster(env={"EVERGREEN_PROBE": "here"}) as cluster:
        assert cluster.pid is not None
        environment = Path(f"/proc/{cluster.pid}/environ").read_bytes().split(b"\0")
    assert b"EVERGREEN_PROBE=here" in environment
    assert not [entry for entry in environment if entry.startswith(b"PYTHON")]


def test_committed_rows_survive_an_immediate_restart(cluster: Cluster):
    with psycopg.connect(cluster.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
    cluster.restart("immediate")
    assert ask(cluster, "SELECT count(*) FROM kept") == 1


def test_nothing_is_left_behind():
    with Cluster() as cluster:
        root, pid = cluster.root, cluster.pid
        assert root.exists()
    assert not root.exists()
    assert not is_running(pid)


def test_kept_cluster_goes_on_running():
    with Cluster(keep=True) as cluster:
        pass
    try:
        assert ask(cluster, "SELECT 1") == 1
    finally:
        cluster.remove()
    assert not cluster.root.exists()


def test_nobody_else_reaches_the_socket(cluster: Cluster):
    assert cluster.root.stat().st_mode & 0o077 == 0


def test_nothing_is_left_behind_by_a_killed_test_run():
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    root, pid = run.stdout.readline().split()
    assert is_running(int(pid))
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while Path(root).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(root).exists()
    assert not is_running(int(pid))


def test_killed_server_is_not_taken_for_a_running_one():
    with Cluster() as cluster:
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while cluster.pid is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert cluster.pid is None
    assert not cluster.root.exists()


def test_failed_start_shows_the_servers_log_and_cleans_up():
    cluster = Cluster(options={"shared_preload_libraries": "no_such_library"})
    with pytest.raises(CommandError, match="no_such_library"), cluster:
        pass
    assert not cluster.root.exists()
