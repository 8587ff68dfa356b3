"""The tests' own container engine leaves the machine's network as it was."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.fixtures.paths import PROJECT
from tests.packaging.engine import without_docker

BEFORE = """*filter
:INPUT DROP [7:9]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:OWN - [0:0]
-A INPUT -j OWN
-A OWN -s 10.0.0.0/8 -j ACCEPT
COMMIT
"""
WITH_DOCKER = """*filter
:INPUT DROP [7:9]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:OWN - [0:0]
-A INPUT -j OWN
-A FORWARD -j DOCKER-USER
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
-A OWN -s 10.0.0.0/8 -j ACCEPT
COMMIT
"""
NETWORK = "ip -oneline link | cut -d: -f2; iptables-save | grep -v '^#'; cat /proc/sys/net/ipv4/ip_forward"
#: In a network of its own: what the machine has is not touched, whatever fails.
STARTS_AND_STOPS = f"""
import subprocess
from tests.packaging.engine import Daemon

def network():
    return subprocess.run(["sh", "-c", {NETWORK!r}], capture_output=True, text=True).stdout

subprocess.run(["iptables", "-A", "FORWARD", "-s", "10.9.9.9", "-j", "DROP"], check=True)
subprocess.run(["iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.9.9.9", "-j", "RETURN"], check=True)
before = network()
with Daemon() as daemon:
    assert "docker0" in network()
assert network() == before, network() + before
assert not daemon.folder.exists()
"""


def test_only_dockers_chains_and_rules_are_taken_away():
    assert without_docker(WITH_DOCKER, "ACCEPT") == BEFORE
    assert without_docker(BEFORE, "ACCEPT") == BEFORE


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine")
@pytest.mark.skipif(shutil.which("dockerd") is None, reason="dockerd is not installed (make image)")
def test_nothing_is_left_of_it():
    command = ["unshare", "--net", sys.executable, "-c", STARTS_AND_STOPS]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
