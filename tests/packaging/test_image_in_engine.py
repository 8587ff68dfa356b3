"""The image as a container engine builds and runs it; skipped where none can be had."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
from testcontainers.core.image import DockerImage

from tests.docs.pages import PAGES, Block, blocks
from tests.fixtures.paths import PROJECT
from tests.packaging import image_story
from tests.packaging.containers import BASE, running

pytestmark = pytest.mark.root

INIT = """
CREATE EXTENSION evergreen CASCADE;
CREATE TABLE notes (id int PRIMARY KEY, body text);
SELECT embed_create('notes', 'notes', columns => '{body}', model => 'wordllama-64');
"""
#: What a page's `docker run` makes.
NAME = "db"
BLOCKS = [block for page in PAGES for block in blocks(page, "sh") if "docker run" in block.code]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a reader of the pages has in the folder where he is."""
    ignore = shutil.ignore_patterns("__pycache__", ".venv", ".git", "build")
    return Path(shutil.copytree(PROJECT, tmp_path / "checkout", ignore=ignore))


@pytest.fixture
def readers_name(own_engine: bool) -> Iterator[str]:
    """The name that pages give a container; it goes afterwards."""
    with closing(docker.from_env()) as client:
        if client.containers.list(all=True, filters={"name": f"^/?{NAME}$"}):
            pytest.fail(f"this engine has a container {NAME}, which is not the tests'")
        yield NAME
        client.containers.get(NAME).remove(force=True, v=True)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_lines_of_a_page_work_when_pasted(block: Block, image: str, checkout: Path, readers_name: str):
    secrets = checkout / "secrets"
    secrets.mkdir(mode=0o755)
    (secrets / "openai").write_text("sk-123\n", "utf-8")
    shutil.chown(secrets / "openai", 0, 999)
    (secrets / "openai").chmod(0o640)
    done = subprocess.run(
        ["bash", "-euc", block.code], cwd=checkout, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "CREATE EXTENSION"
    if str(secrets) in block.code.replace("$PWD", str(checkout)):
        call = ["docker", "exec", readers_name, "psql", "-XAtU", "postgres", "-c"]
        asked = "SELECT embed_endpoint_set('openai', 'https://api.example.com/v1', secret => 'openai')"
        warned = subprocess.run([*call, asked], capture_output=True, text=True, check=True).stderr
        assert "WARNING" not in warned


def test_it_works_as_the_official_image_and_has_the_extension(run: Callable[..., Any]):
    with run() as database, database.connected() as db:
        image_story.creates_nothing_unasked(db)
        image_story.answers_a_question(db)
        assert database.shell(image_story.LEFTOVERS) == ""
        assert database.shell(image_story.UNREADABLE) == ""


def test_it_is_no_larger_than_it_has_to_be(image: str):
    with closing(docker.from_env()) as client:
        own = client.images.get(image).attrs["Size"] - client.images.get(BASE).attrs["Size"]
    assert own < 250e6


@pytest.fixture(scope="module")
def kept_fresh(image: str) -> Iterator[Any]:
    """A container in which pg_cron's workers embed what is written."""
    with running(image) as database:
        with database.connected() as db:
            image_story.answers_a_question(db)
            image_story.stays_fresh_unattended(db)
        yield database


@pytest.mark.parametrize(("ending", "key"), [("restart", 4), ("kill", 5)])
def test_pg_cron_keeps_it_fresh_after(ending: str, key: int, kept_fresh: Any):
    getattr(kept_fresh.engine, ending)()
    kept_fresh.engine.start()
    with kept_fresh.connected() as db:
        image_story.is_embedded_by_itself(db, key)


def test_it_stops_at_once_with_its_workers(kept_fresh: Any):
    kept_fresh.engine.stop(timeout=10)
    kept_fresh.engine.reload()
    assert kept_fresh.engine.attrs["State"]["ExitCode"] == 0  # 137: killed when time was up
    assert "database system is shut down" in kept_fresh.logs


def test_variables_and_init_scripts(run: Callable[..., Any], tmp_path: Path):
    (tmp_path / "10-app.sql").write_text(INIT, "utf-8")
    tmp_path.chmod(0o755)
    mounts = {"/docker-entrypoint-initdb.d": str(tmp_path)}
    with run(mounts=mounts, POSTGRES_USER="alice", POSTGRES_DB="app") as database, database.connected() as db:
        assert db.execute("SELECT current_user, current_database()").fetchone() == ("alice", "app")
        db.execute("INSERT INTO notes VALUES (1, 'a note')")
        assert db.execute("SELECT embed_drain()").fetchone() == (1,)


def test_options_of_the_command_win(run: Callable[..., Any]):
    command = (
        "postgres -c cron.database_name=app -c work_mem=5MB -c shared_preload_libraries=pg_cron,pg_stat_statements"
    )
    with run(command, POSTGRES_DB="app") as database, database.connected() as db:
        assert db.execute("SHOW cron.database_name").fetchone() == ("app",)
        assert db.execute("SHOW work_mem").fetchone() == ("5MB",)
        db.execute("CREATE EXTENSION pg_stat_statements")
        image_story.answers_a_question(db)
        image_story.stays_fresh_unattended(db)
        assert db.execute("SELECT count(*) > 0 FROM pg_stat_statements").fetchone() == (True,)


@pytest.mark.parametrize("major", ["16", "18"])
def test_other_majors_build(major: str, own_engine: bool):
    """Without a server: what the Dockerfile names is there for them too."""
    if own_engine:
        pytest.skip(f"the image postgres:{major}-trixie comes from a registry only")
    tag = f"pg-evergreen:test-{major}"
    with DockerImage(
        path=PROJECT, dockerfile_path="Dockerfile.postgres", tag=tag, buildargs={"PG_MAJOR": major}
    ) as made:
        shown = subprocess.run(
            ["docker", "run", "--rm", str(made), "postgres", "--version"], check=True, capture_output=True, text=True
        )
        assert f"PostgreSQL) {major}." in shown.stdout
