"""Containers of the image by testcontainers, and the base image where no registry has it."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any

import docker
from testcontainers.core.container import DockerContainer

from tests.fixtures.paths import PROJECT
from tests.fixtures.waiting import wait_until
from tests.packaging import imageroot
from tests.packaging.debianroot import network_settings
from tests.packaging.image_story import Connection, connected

PASSWORD = "only-for-the-test"
PORT = 5432
BASE = f"postgres:{imageroot.MAJOR}-{imageroot.SUITE}"
_ROOT = "evergreen-test-root"
_ENTRY_POINT = "usr/local/bin/docker-entrypoint.sh"


def import_base() -> None:
    """Give the engine an image that stands for the official one: a root of Debian with an entry point of the tests."""
    root = imageroot.base_image().path
    script = root / _ENTRY_POINT
    script.write_text((PROJECT / "tests/packaging/docker-entrypoint.sh").read_text("utf-8"), "utf-8")
    script.chmod(0o755)
    pack = ["tar", "--create", "--one-file-system", "--numeric-owner", "--directory", str(root), "."]
    with closing(docker.from_env()) as client:
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            client.api.import_image_from_stream(packed.stdout, repository=_ROOT)
        if packed.returncode != 0:
            raise RuntimeError("the root of the base image cannot be packed")
        client.images.build(fileobj=BytesIO(_dockerfile().encode()), tag=BASE)


def _dockerfile() -> str:
    """What the official image says of itself, and this machine's settings by which pip reaches its index."""
    variables = {**network_settings(), **imageroot.ENV}
    return "\n".join([
        f"FROM {_ROOT}", *(f'ENV {name}="{value}"' for name, value in variables.items()),
        f"VOLUME {imageroot.PGDATA}", 'ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["postgres"]',
        "STOPSIGNAL SIGINT", f"EXPOSE {PORT}",
    ])  # fmt: skip


class Database:
    """A container of the image, and how its database is reached."""

    def __init__(self, container: DockerContainer, user: str, name: str, port: int) -> None:
        self.container = container
        self.engine: Any = container.get_wrapped_container()
        self._login = f"user={user} dbname={name} password={PASSWORD}"
        self._port = port

    def dsn(self) -> str:
        """Return where it is now: the port is another after a restart."""
        host = self.container.get_container_host_ip()
        return f"host={host} port={self.container.get_exposed_port(self._port)} {self._login}"

    def connected(self) -> Connection:
        """Wait until the container is healthy and return a session."""
        wait_until(lambda: self.health == "healthy", 120, "the container's health")
        return connected(self.dsn)

    def attempt(self, command: str, user: str = "") -> tuple[int, str]:
        """Run a command in the container; return its exit code and what it said."""
        status, output = self.engine.exec_run(["sh", "-c", command], user=user)
        return status, output.decode()

    def shell(self, command: str, user: str = "") -> str:
        """Run a command in the container and return what it said."""
        status, output = self.attempt(command, user)
        assert status == 0, output
        return output

    def psql(self, statement: str) -> str:
        """Run a statement by the container's own psql, as `docker exec` does."""
        return self.shell(f'psql -XAt -U postgres -v ON_ERROR_STOP=1 -c "{statement}"')

    @property
    def health(self) -> str:
        """What the engine makes of the health check."""
        self.engine.reload()
        return self.engine.attrs["State"]["Health"]["Status"]

    @property
    def logs(self) -> str:
        """What the server and the entry point have said."""
        return self.engine.logs().decode()


@contextmanager
def running(
    image: str,
    command: str = "",
    *,
    mounts: Mapping[str, str] | None = None,
    data: str = "",
    tmpfs: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    port: int = PORT,
    **env: str,
) -> Iterator[Database]:
    """Run the image; `mounts` are read-only, a path of the container to one of the host; `options` are docker's.

    `data` is the volume or the host's folder for the data directory.
    """
    container = DockerContainer(image).with_exposed_ports(port).with_envs(**{"POSTGRES_PASSWORD": PASSWORD, **env})
    for inside, outside in (mounts or {}).items():
        container = container.with_volume_mapping(outside, inside, "ro")
    if data:
        container = container.with_volume_mapping(data, imageroot.PGDATA, "rw")
    for path in tmpfs:
        container = container.with_tmpfs_mount(path)
    if options:
        container = container.with_kwargs(**options)
    if command:
        container = container.with_command(command)
    user = env.get("POSTGRES_USER", "postgres")
    with container:
        database = Database(container, user, env.get("POSTGRES_DB", user), port)
        try:
            yield database
        except BaseException:
            print(database.logs[-6000:])
            raise
