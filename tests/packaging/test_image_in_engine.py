"""The image as a container engine builds and runs it; skipped without an engine."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from tests.fixtures.paths import PROJECT
from tests.fixtures.waiting import wait_until
from tests.packaging import image_story

PASSWORD = "only-for-the-test"
PORT = 5432
INIT = """
CREATE EXTENSION evergreen CASCADE;
CREATE TABLE notes (id int PRIMARY KEY, body text);
SELECT embed_create('notes', 'notes', columns => '{body}', model => 'wordllama-64');
"""


def no_engine() -> str:
    """Say why there is none, '' if one answers."""
    try:
        docker.from_env().ping()
    except DockerException as error:
        return f"no container engine answers: {str(error).splitlines()[0][:80]}"
    return ""


REASON = no_engine()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(REASON), reason=REASON)]


class Database:
    """A container of the image, and how its database is reached."""

    def __init__(self, container: DockerContainer, user: str, name: str) -> None:
        self.container = container
        self.engine: Any = container.get_wrapped_container()
        self._login = f"user={user} dbname={name} password={PASSWORD}"

    def dsn(self) -> str:
        """Return where it is now: the port is another after a restart."""
        host = self.container.get_container_host_ip()
        return f"host={host} port={self.container.get_exposed_port(PORT)} {self._login}"

    def shell(self, command: str) -> str:
        """Run a command in the container and return what it said."""
        status, output = self.container.exec(["sh", "-c", command])
        assert status == 0, output
        assert isinstance(output, bytes)
        return output.decode()

    @property
    def health(self) -> str:
        """What the engine makes of the health check."""
        self.engine.reload()
        return self.engine.attrs["State"]["Health"]["Status"]


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with DockerImage(path=PROJECT, dockerfile_path="Dockerfile.postgres", tag="pg-evergreen:test") as made:
        yield str(made)


@pytest.fixture
def run(image: str) -> Callable[..., Any]:
    """Run the image: ``with run(command, init=folder, POSTGRES_USER='alice') as database``."""

    @contextmanager
    def running(command: str = "", init: Path | None = None, **env: str) -> Iterator[Database]:
        container = DockerContainer(image).with_exposed_ports(PORT).with_env("POSTGRES_PASSWORD", PASSWORD)
        for name, value in env.items():
            container = container.with_env(name, value)
        if init is not None:
            container = container.with_volume_mapping(str(init), "/docker-entrypoint-initdb.d", "ro")
        if command:
            container = container.with_command(command)
        user = env.get("POSTGRES_USER", "postgres")
        with container:
            yield Database(container, user, env.get("POSTGRES_DB", user))

    return running


def test_it_works_as_the_official_image_and_has_the_extension(run: Callable[..., Any]):
    with run() as database, image_story.connected(database.dsn) as db:
        image_story.creates_nothing_unasked(db)
        image_story.answers_a_question(db)
        wait_until(lambda: database.health == "healthy", 60, "the container's health")
        assert database.shell(image_story.LEFTOVERS) == ""
        assert database.shell(image_story.UNREADABLE) == ""


def test_after_a_restart_pg_cron_keeps_it_fresh(run: Callable[..., Any]):
    with run() as database:
        with image_story.connected(database.dsn) as db:
            image_story.answers_a_question(db)
            image_story.stays_fresh_unattended(db)
        database.engine.restart()
        with image_story.connected(database.dsn) as db:
            image_story.is_embedded_by_itself(db, 4)


def test_variables_and_init_scripts(run: Callable[..., Any], tmp_path: Path):
    (tmp_path / "10-app.sql").write_text(INIT, "utf-8")
    tmp_path.chmod(0o755)
    with (
        run(init=tmp_path, POSTGRES_USER="alice", POSTGRES_DB="app") as database,
        image_story.connected(database.dsn) as db,
    ):
        assert db.execute("SELECT current_user, current_database()").fetchone() == ("alice", "app")
        db.execute("INSERT INTO notes VALUES (1, 'a note')")
        assert db.execute("SELECT embed_drain()").fetchone() == (1,)


def test_options_of_the_command_win(run: Callable[..., Any]):
    command = "postgres -c cron.database_name=app -c work_mem=5MB"
    with run(command, POSTGRES_DB="app") as database, image_story.connected(database.dsn) as db:
        assert db.execute("SHOW cron.database_name").fetchone() == ("app",)
        assert db.execute("SHOW work_mem").fetchone() == ("5MB",)
        image_story.answers_a_question(db)
        image_story.stays_fresh_unattended(db)


@pytest.mark.parametrize("major", ["16", "18"])
def test_other_majors_build(major: str):
    """Without a server: what the Dockerfile names is there for them too."""
    tag = f"pg-evergreen:test-{major}"
    with DockerImage(
        path=PROJECT, dockerfile_path="Dockerfile.postgres", tag=tag, buildargs={"PG_MAJOR": major}
    ) as made:
        shown = subprocess.run(
            ["docker", "run", "--rm", str(made), "postgres", "--version"], check=True, capture_output=True, text=True
        )
        assert f"PostgreSQL) {major}." in shown.stdout
