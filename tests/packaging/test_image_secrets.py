"""Secrets as Docker, Swarm and Kubernetes mount them into containers of the image."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.packaging.containers import running

pytestmark = pytest.mark.root

SECRETS = "/etc/evergreen/secrets"
SERVER = 999  # user and group of the official image
Run = Callable[..., Any]


@dataclass(frozen=True)
class Mounted:
    """A secret's file as it is in the container."""

    uid: int
    gid: int
    mode: int

    @property
    def name(self) -> str:
        """The name of the secret."""
        return f"key_{self.uid}_{self.gid}_{self.mode:o}"


FIT = [
    *(Mounted(SERVER, SERVER, mode) for mode in (0o600, 0o640, 0o440, 0o400)),
    *(Mounted(0, SERVER, mode) for mode in (0o640, 0o440)),
]
#: Swarm's and Kubernetes' own modes.
OPEN = [Mounted(0, 0, 0o444), Mounted(0, 0, 0o644)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the host: files, and one below ..data as Kubernetes links it."""
    made = tmp_path_factory.mktemp("secrets")
    made.chmod(0o755)
    for secret in (*FIT, *OPEN):
        _write(made / secret.name, secret)
    (made / "..v1").mkdir(mode=0o755)
    _write(made / "..v1" / "linked", Mounted(0, SERVER, 0o440))
    (made / "..data").symlink_to("..v1")
    (made / "linked").symlink_to("..data/linked")
    return made


def _write(path: Path, secret: Mounted) -> None:
    path.write_text("sk-123\n", "utf-8")
    os.chown(path, secret.uid, secret.gid)
    path.chmod(secret.mode)


@pytest.fixture(scope="module")
def database(image: str, folder: Path) -> Iterator[Any]:
    env = {"EVERGREEN_SECRET_from_environment": "sk-123"}
    with running(image, mounts={SECRETS: str(folder)}, **env) as made:
        with made.connected() as db:
            db.execute("CREATE EXTENSION evergreen CASCADE")
        yield made


def problem(db: psycopg.Connection[Any], secret: str) -> str | None:
    """What is said of an endpoint with this secret: its warning, and why it cannot be used."""
    said: list[str] = []
    db.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    db.execute("SELECT embed_endpoint_set('e', 'http://127.0.0.1:9/v1', secret => %s)", (secret,))
    row = db.execute("SELECT problem, remedy FROM embed_endpoints WHERE endpoint = 'e'").fetchone()
    assert row is not None
    found, remedy = row
    assert bool(found) == bool(said)
    return None if found is None else f"{found}\n{remedy}"


@pytest.mark.parametrize("secret", [*(one.name for one in FIT), "linked", "from_environment"])
def test_a_secret_that_only_the_server_can_read_is_used(secret: str, database: Any):
    with database.connected() as db:
        assert problem(db, secret) is None


@pytest.mark.parametrize("secret", OPEN, ids=["Swarm", "Kubernetes"])
def test_what_others_can_read_is_refused_with_the_settings_that_help(secret: Mounted, database: Any):
    with database.connected() as db:
        said = problem(db, secret.name)
        assert said is not None
        assert f"mount it with group {SERVER} and mode 0440" in said
        assert f"chown 0:{SERVER} {secret.name} && chmod 0440 {secret.name} # on the host" in said


def test_the_hint_on_the_host_helps(database: Any, folder: Path):
    """What the remedy says is typed where the folder is."""
    name = "typed"
    _write(folder / name, Mounted(0, 0, 0o644))
    with database.connected() as db:
        assert problem(db, name) is not None
        os.chown(folder / name, 0, SERVER)
        (folder / name).chmod(0o440)
        assert problem(db, name) is None


def test_a_folder_that_is_closed_says_for_whom(run: Run, tmp_path: Path):
    _write(tmp_path / "key", FIT[-1])
    tmp_path.chmod(0o700)
    with run(mounts={SECRETS: str(tmp_path)}) as database, database.connected() as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        said = problem(db, "key")
        assert said is not None
        assert f"user {SERVER} needs to enter {SECRETS}" in said
        assert "chmod 0755" in said
        tmp_path.chmod(0o755)
        assert problem(db, "key") is None
