"""docs/how-to/clients: each page's code runs against the real library and prints what the page shows.

The only change to the code is the URL of the database. LangChain and LlamaIndex want other versions of pgvector and
SQLAlchemy than we do: `make test` installs them into an environment of their own.
"""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.docs.pages import ROOT, blocks

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


@pytest.mark.parametrize("page", PYTHONS)
def test_it_prints_what_the_page_says(page: str, reader: psycopg.Connection, tmp_path: Path) -> None:
    if not PYTHONS[page].exists():
        pytest.skip("`make clients` installs LangChain and LlamaIndex")
    for block in blocks(FOLDER / page, "sql"):
        reader.execute(block.code)
    code = "\n".join(block.code for block in blocks(FOLDER / page, "python"))
    assert URL.search(code)
    assert run(PYTHONS[page], located(code, reader), tmp_path) == shown(page)


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


def test_django(environment, tmp_path: Path) -> None:
    """models.py, the migration, and the search, in an application named as on the page."""
    models, migration, search, asked = (block.code for block in blocks(FOLDER / "django.md", "python"))
    app = tmp_path / "blog"
    (app / "migrations").mkdir(parents=True)
    for file, content in {"__init__.py": "", "migrations/__init__.py": "", "models.py": models}.items():
        (app / file).write_text(content, "utf-8")
    (tmp_path / "settings.py").write_text(SETTINGS, "utf-8")
    env = {**environment(), "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path)}
    _psql("CREATE EXTENSION evergreen CASCADE", env)

    def manage(*words: str) -> str:
        command = [sys.executable, "-m", "django", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    manage("makemigrations", "blog")
    (app / "migrations" / "0002_pipeline.py").write_text(migration, "utf-8")
    manage("migrate")
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run")
    begin = "import django\ndjango.setup()\n"
    drain = "\nfrom django.db import connection\nconnection.cursor().execute('SELECT embed_drain()')\n"
    assert run(Path(sys.executable), begin + search + drain + asked, tmp_path, **env) == shown("django.md")
    manage("migrate", "blog", "0001")


def _psql(statement: str, env: dict[str, str]) -> None:
    subprocess.run(["psql", "-Xqc", statement], env=env, check=True, capture_output=True)


def test_every_page_is_run() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == {*PYTHONS, "django.md"}
