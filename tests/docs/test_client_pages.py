"""docs/how-to/clients: each page's code runs against the real library and prints what the page shows.

The only change to the code is the URL of the database. LangChain and LlamaIndex want other versions of pgvector and
SQLAlchemy than we do: `make test` installs them into an environment of their own.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.docs.pages import ROOT, blocks, tutorial
from tests.fixtures.server.template import janitor

FOLDER = ROOT / "docs" / "how-to" / "clients"
FRAMEWORKS = ROOT / "build" / "clients" / "bin" / "python"
#: By page: the Python that runs it.
PYTHONS = {
    "langchain.md": FRAMEWORKS,
    "llamaindex.md": FRAMEWORKS,
    "sqlalchemy.md": Path(sys.executable),
}
URL = re.compile(r'"(postgresql[+\w]*)://app@localhost/app"')


def shown(page: str) -> str:
    """What the page says that its Python prints."""
    every = blocks(FOLDER / page)
    return "".join(
        said.code for asked, said in pairwise(every) if (asked.language, said.language) == ("python", "text")
    )


def located(code: str, session: psycopg.Connection) -> str:
    """The code with the URL of a session's database."""
    place = session.info
    query = f"host={quote(place.host, safe='')}&port={place.port}"
    return URL.sub(rf'"\1://{place.user}@/{place.dbname}?{query}"', code)


def run(python: Path, code: str, folder: Path, **env: str) -> str:
    script = folder / "page.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [python, "-W", "error::DeprecationWarning:__main__", script],
        cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def followed(page_cluster: Cluster) -> Iterator[psycopg.Connection]:
    """A session in a database where the tutorial was followed; the pages only read."""
    janitor(page_cluster, "clients").init()
    with psycopg.connect(page_cluster.dsn("clients"), autocommit=True) as session:
        session.execute(tutorial())
        yield session


@pytest.mark.parametrize("page", PYTHONS)
def test_it_prints_what_the_page_says(page: str, followed: psycopg.Connection, tmp_path: Path) -> None:
    if not PYTHONS[page].exists() and not os.environ.get("CI"):
        pytest.skip("`make clients` installs LangChain and LlamaIndex")
    for block in blocks(FOLDER / page, "sql"):
        followed.execute(block.code)
    code = "\n".join(block.code for block in blocks(FOLDER / page, "python"))
    assert URL.search(code)
    assert run(PYTHONS[page], located(code, followed), tmp_path) == shown(page)


SETTINGS = """
import os
SECRET_KEY = "of a test"
INSTALLED_APPS = ["blog"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
}}
"""


#: What the reader does between the blocks of the page; in one process, because starting Django takes a second.
DJANGO = """
import shutil
import django
from django.core.management import call_command
django.setup()
call_command("makemigrations", "blog", verbosity=0)
shutil.copy("pipeline.py", "blog/migrations/0002_pipeline.py")
call_command("migrate", verbosity=0)
call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
{search}
from django.db import connection
connection.cursor().execute("SELECT embed_drain()")
{asked}
call_command("migrate", "blog", "0001", verbosity=0)
"""


def test_django(environment: Callable[[], dict[str, str]], tmp_path: Path) -> None:
    """models.py, the migration, and the search, in an application named as on the page."""
    models, migration, search, asked = (block.code for block in blocks(FOLDER / "django.md", "python"))
    (tmp_path / "blog" / "migrations").mkdir(parents=True)
    files = {"blog/__init__.py": "", "blog/migrations/__init__.py": "", "blog/models.py": models}
    for file, content in {**files, "pipeline.py": migration, "settings.py": SETTINGS}.items():
        (tmp_path / file).write_text(content, "utf-8")
    env = {**environment(), "DJANGO_SETTINGS_MODULE": "settings"}
    subprocess.run(["psql", "-Xqc", "CREATE EXTENSION evergreen CASCADE"], env=env, check=True, capture_output=True)
    code = DJANGO.format(search=search, asked=asked)
    assert run(Path(sys.executable), code, tmp_path, **env) == shown("django.md")


def test_every_page_is_run() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == {*PYTHONS, "django.md"}
