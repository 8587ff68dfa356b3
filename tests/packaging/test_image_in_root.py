"""Dockerfile.postgres, its steps run in Debian roots and produce a working image."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import free_port
from tests.fixtures.paths import PROJECT
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import wait_until
from tests.packaging import image_story, imageroot
from tests.packaging.debianroot import DebianRoot
from tests.packaging.dockerfile import parse
from tests.packaging.imageroot import Server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes roots, which only root may"),
]


@pytest.fixture(scope="module")
def image() -> DebianRoot:
    return imageroot.build()


@pytest.fixture(scope="module")
def server(image: DebianRoot) -> Iterator[Server]:
    """A server over a new data directory; the tests below go on where the one before left it."""
    with Server(image, free_port()) as made:
        made.initdb()
        made.start()
        yield made


@pytest.fixture
def db(server: Server) -> Iterator[image_story.Connection]:
    with image_story.connected(server.dsn) as session:
        yield session


@pytest.fixture(scope="module")
def healthcheck() -> str:
    (line,) = parse((PROJECT / "Dockerfile.postgres").read_text("utf-8")).stages[-1].of("HEALTHCHECK")
    return line.partition(" CMD ")[2]


def said(server: Server, command: str) -> list[str]:
    done = server.shell(command)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def setting(server: Server, name: str, options: str = "") -> str:
    """What a server started with these options would go by."""
    return said(server, f"{imageroot.AS_POSTGRES} postgres -C {name} {options} 2> /dev/null")[-1]


def test_no_toolchain_no_pip_and_no_lists_are_left(server: Server):
    assert said(server, image_story.LEFTOVERS) == []
    assert said(server, image_story.UNREADABLE) == []


def test_a_new_cluster_has_pg_cron_preloaded_and_nothing_else(db: image_story.Connection):
    image_story.creates_nothing_unasked(db)


def test_create_drain_search(db: image_story.Connection):
    image_story.answers_a_question(db)


def test_pg_cron_keeps_it_fresh(db: image_story.Connection):
    image_story.stays_fresh_unattended(db)


def test_after_a_crash_and_a_start_the_workers_go_on(server: Server):
    server.stop()
    server.start()
    with image_story.connected(server.dsn) as session:
        image_story.is_embedded_by_itself(session, 4)


def test_a_secret_is_a_file_in_its_folder(server: Server, db: image_story.Connection):
    folder = server.root.path / "etc/evergreen/secrets"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (0, 0o755)
    with LoopbackProvider() as provider:
        provider.register(db)
        db.execute("SELECT embed_endpoint_set('loop', %s, secret => 'the_key')", (provider.url,))
        with pytest.raises(psycopg.Error, match="/etc/evergreen/secrets"):
            db.execute("SELECT embed('text', 'loop')")
        assert said(server, "install -o root -g postgres -m 0640 /dev/null /etc/evergreen/secrets/the_key") == []
        (folder / "the_key").write_text("sk-123\n")
        assert db.execute("SELECT vector_dims(embed('text', 'loop'))").fetchone() == (8,)


def test_health_follows_the_server(server: Server, db: image_story.Connection, healthcheck: str):
    assert server.shell(healthcheck).returncode == 0
    server.stop()
    assert server.shell(healthcheck).returncode != 0
    server.start("-c listen_addresses='' -c port=6432")
    wait_until(lambda: server.shell(healthcheck).returncode == 0, 60, "the health of a server with its own port")
    server.stop()
    server.start()
    wait_until(lambda: server.shell(healthcheck).returncode == 0, 60, "its health")


@pytest.mark.parametrize(
    "options", ["-c shared_preload_libraries=auto_explain", "--shared_preload_libraries=auto_explain"]
)
def test_options_of_the_command_line_win(server: Server, options: str):
    assert setting(server, "shared_preload_libraries") == "pg_cron"
    assert setting(server, "shared_preload_libraries", options) == "auto_explain"


def test_a_mounted_configuration_file_wins(server: Server):
    own = "/etc/postgresql/own.conf"
    content = shlex.quote("shared_preload_libraries = 'auto_explain'\n")
    assert said(server, f"printf %s {content} > {own} && chmod 644 {own}") == []
    assert setting(server, "shared_preload_libraries", f"-c config_file={own}") == "auto_explain"


@pytest.mark.parametrize(
    ("name", "value"), [("shared_preload_libraries", "pg_cron,auto_explain"), ("cron.database_name", "app")]
)
def test_options_of_initdb_win(image: DebianRoot, name: str, value: str, tmp_path: Path):
    own = Server(image, free_port())
    folder = f"/var/lib/postgresql/{tmp_path.name}"
    made = own.shell(f"rm -rf {folder}; {imageroot.AS_POSTGRES} initdb -D {folder} -c {name}={value}")
    assert made.returncode == 0, made.stdout
    assert said(own, f"{imageroot.AS_POSTGRES} postgres -D {folder} -C {name} 2> /dev/null")[-1] == value
