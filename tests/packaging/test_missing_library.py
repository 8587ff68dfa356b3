"""The library directory of a version is missing, as in a container of the next version: errors say what to type."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.packaging import dist
from evergreen_host.packaging.postgres import Postgres, find_postgres
from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.pipelines.endpoints import create, table
from tests.fixtures.releases import later_files
from tests.fixtures.roles import hash_model
from tests.fixtures.server.own_server import copy_of

LATER = "99.0.0"


def replace_by_later(postgres: Postgres) -> None:
    """Put a later version in the place of this one, as another image has it."""
    version, library = dist.version(), postgres.libdir / "evergreen"
    (library / version).rename(library / LATER)
    package = library / LATER / "evergreen" / "__init__.py"
    package.write_text(package.read_text("utf-8").replace(version, LATER), "utf-8")
    shutil.rmtree(package.parent / "__pycache__", ignore_errors=True)
    for path in postgres.extension_dir.glob("evergreen*"):
        path.unlink()
    for name, content in later_files(LATER, library / LATER).items():
        (postgres.extension_dir / name).write_text(content, "utf-8")


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A copy of Postgres; pytest's own folders are closed to the server's user."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-missing-"))
    folder.chmod(0o755)
    yield copy_of(find_postgres(), folder)
    shutil.rmtree(folder)


def test_calls_say_what_to_type_and_that_helps(own: Postgres):
    with Cluster(own) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE")
            table(db, "docs", 3)
            create(db, model=hash_model(db))
            drain_all(db)
        replace_by_later(own)
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
            with pytest.raises(psycopg.errors.UndefinedFile, match="server-side library of evergreen") as caught:
                db.execute("SELECT embed_drain()")
            assert (caught.value.diag.message_hint or "").startswith("ALTER EXTENSION evergreen UPDATE;")
            db.execute("ALTER EXTENSION evergreen UPDATE")
            drain_all(db)
            assert_as_source(db)
