"""Dockerfile.postgres makes a small image that works as the official one; its steps run in `make roots`."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.packaging.postgres import find_postgres
from tests.fixtures.distributions import LEFT_OUT, build
from tests.fixtures.paths import PROJECT
from tests.packaging.dockerfile import Dockerfile, Stage, expand, parse

TEXT = (PROJECT / "Dockerfile.postgres").read_text("utf-8")
#: What the official image says, or what would change how it is used.
THE_IMAGES_OWN = {"USER", "ENTRYPOINT", "CMD", "VOLUME", "ENV", "EXPOSE", "STOPSIGNAL", "SHELL", "ONBUILD"}
TOOLCHAIN = re.compile(
    r"\b(gcc|g\+\+|cc|clang|llvm\S*|make|build-essential|\S+-dev\S*|git|curl|wget|pip\S*|python3-\S+)(?=[\s;\"]|$)"
)


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return parse(TEXT)


@pytest.fixture(scope="module")
def final(dockerfile: Dockerfile) -> Stage:
    return dockerfile.stages[-1]


def copied(stage: Stage) -> list[str]:
    """The sources of its COPY lines that come from the project."""
    return [source for line in stage.of("COPY") if not line.startswith("--from=") for source in line.split()[:-1]]


def test_every_stage_starts_from_the_official_image_of_one_major(dockerfile: Dockerfile):
    assert dockerfile.arguments == {"PG_MAJOR": "17"}
    assert {stage.base for stage in dockerfile.stages} == {"postgres:${PG_MAJOR}-trixie"}
    assert expand(dockerfile.stages[-1].base, {"PG_MAJOR": "18"}) == "postgres:18-trixie"
    assert "latest" not in TEXT


def test_nothing_changes_how_the_image_is_used(dockerfile: Dockerfile):
    used = {instruction.name for stage in dockerfile.stages for instruction in stage.instructions}
    assert not used & THE_IMAGES_OWN


def test_no_host_is_named(dockerfile: Dockerfile):
    assert "://" not in TEXT
    assert not {"ADD"} & {instruction.name for stage in dockerfile.stages for instruction in stage.instructions}


def test_every_step_stops_at_its_first_error_and_leaves_no_package_lists(dockerfile: Dockerfile):
    for command in (command for stage in dockerfile.stages for command in stage.of("RUN")):
        assert command.startswith("set -eux;")
        if "apt-get" in command:
            assert command.count("apt-get update;") == 1
            assert "--no-install-recommends" in command
            assert command.index("rm -rf /var/lib/apt/lists/*") > command.index("apt-get install")


def test_no_toolchain_and_no_pip_come_into_the_image(final: Stage):
    for command in final.of("RUN"):
        assert not TOOLCHAIN.search(command), command
    assert all(line.startswith("--from=builder /usr/") for line in final.of("COPY"))


def is_healthy(final: Stage, data: Path) -> bool:
    """Run the health check against a server here."""
    (check,) = final.of("HEALTHCHECK")
    command = check.partition("CMD ")[2]
    env = {"PATH": f"{find_postgres().bindir}:{os.defpath}", "PGDATA": str(data)}
    return subprocess.run(["sh", "-c", command], env=env, check=False).returncode == 0


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""},
        {"listen_addresses": "*", "unix_socket_directories": ""},
    ],
    ids=["socket", "address", "every address"],
)
def test_the_health_check_finds_the_server_wherever_it_listens(final: Stage, options: dict[str, str | int | bool]):
    with Cluster() as cluster:
        cluster.stop()
        cluster.configure(options)
        assert not is_healthy(final, cluster.data)
        cluster.start()
        assert is_healthy(final, cluster.data)


def test_it_is_not_healthy_while_the_entry_point_runs(final: Stage, tmp_path: Path):
    entry = tmp_path / "docker-entrypoint.sh"
    entry.write_text("#!/bin/sh\nread -r _\n", "utf-8")
    entry.chmod(0o755)
    with Cluster() as cluster:
        with subprocess.Popen([entry], stdin=subprocess.PIPE):
            assert not is_healthy(final, cluster.data)
        assert is_healthy(final, cluster.data)


def test_jobs_of_pg_cron_need_no_connection(final: Stage):
    assert any("cron.use_background_workers = on" in command for command in final.of("RUN"))


def test_what_it_copies_is_let_through_and_nothing_else(dockerfile: Dockerfile):
    first, *rest = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    wanted = [source for stage in dockerfile.stages for source in copied(stage)]
    assert sorted(line[1:] for line in rest if line.startswith("!")) == sorted(wanted)
    assert not [source for source in wanted if not (PROJECT / source).exists()]
    assert [line for line in rest if not line.startswith("!")] == ["**/__pycache__", "**/*.py[co]"]


def test_what_it_copies_makes_the_whole_wheel(dockerfile: Dockerfile, tmp_path: Path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    shutil.copytree(PROJECT, whole, ignore=LEFT_OUT)
    part.mkdir()
    for source in (whole / name for name in copied(dockerfile.stages[0])):
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, part / source.name)
    one, other = (next(build(tree, "wheel").iterdir()) for tree in (whole, part))
    assert one.read_bytes() == other.read_bytes()


def test_lines_are_joined_comments_left_out_and_stages_told_apart():
    read = parse("ARG A=1\n# c\nFROM x:${A} AS one\nRUN a; \\\n# c\n    b\nFROM y\nCOPY --from=one /a /b\n")
    assert read.arguments == {"A": "1"}
    assert [(stage.base, stage.name) for stage in read.stages] == [("x:${A}", "one"), ("y", "")]
    assert read.stages[0].of("RUN") == ["a;     b"]
    assert expand("$A-${A}", {"A": "1"}) == "1-1"
    with pytest.raises(KeyError):
        expand("$B", {"A": "1"})
