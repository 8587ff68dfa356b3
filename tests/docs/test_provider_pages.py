"""docs/how-to/providers: each page's statements run against a server with that provider's format, limits and errors.

The only change to a statement is the host of its URL.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.docs.pages import ROOT, blocks
from tests.fixtures.pipelines.documents import drain_all, status_of
from tests.fixtures.providers import faults, services
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.providers.services import Service
from tests.fixtures.waiting import wait_until

FOLDER = ROOT / "docs" / "how-to" / "providers"
SERVICES = {
    "openai.md": services.OPENAI,
    "azure-openai.md": services.AZURE,
    "gemini.md": services.GEMINI,
    "mistral.md": services.MISTRAL,
    "jina.md": services.JINA,
    "cohere.md": services.COHERE,
    "voyage.md": services.VOYAGE,
    "ollama.md": services.OLLAMA,
    "tei.md": services.TEI,
    "vllm.md": services.VLLM,
    "litellm.md": services.LITELLM,
}
KEY = "sk-0123456789-right"
ROWS = 150
ENDPOINT = re.compile(r"SELECT embed_endpoint_set\(.*?\);", re.DOTALL)


class Secrets:
    """The folder in which the server finds keys; not one of pytest's, which are closed to the server's user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.chown(folder, "postgres", "postgres")

    def store(self, names: set[str], key: str) -> None:
        """Store a key under these names."""
        for name in names:
            file = self.folder / name
            file.write_text(f"{key}\n")
            file.chmod(0o600)
            shutil.chown(file, "postgres", "postgres")


@pytest.fixture(scope="module")
def secrets() -> Iterator[Secrets]:
    with tempfile.TemporaryDirectory(prefix="evergreen-secrets-") as folder:
        yield Secrets(Path(folder))


@pytest.fixture(scope="module")
def database(secrets: Secrets) -> Iterator[psycopg.Connection]:
    """One database for all pages, on a server that reads our keys."""
    with (
        Cluster(env={"EVERGREEN_SECRETS": str(secrets.folder)}) as made,
        psycopg.connect(made.dsn(), autocommit=True) as db,
    ):
        db.execute("CREATE EXTENSION evergreen CASCADE")
        yield db


@pytest.fixture
def db(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The database with a table, before the page is followed."""
    database.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    database.execute("INSERT INTO docs SELECT i, 'Title ' || i, 'Body' FROM generate_series(1, %s) i", (ROWS,))
    yield database
    database.execute("SELECT embed_drop('docs', if_exists => true)")
    database.execute("DROP TABLE docs")


class Page:
    """A page whose provider is on loopback."""

    def __init__(self, name: str, service: Service, provider: LoopbackProvider) -> None:
        sql = "\n".join(block.code for block in blocks(FOLDER / name, "sql"))
        self.name, self.service = name, service
        self.sql = re.sub(r"'https?://[^/']+", f"'http://127.0.0.1:{provider.port}", sql)
        self.secrets = set(re.findall(r"secret => '(\w+)'", sql))
        self.routes = {route.path: route for route in service.routes}

    def refuses(self, call: services.Call) -> bool:
        """Whether the key of a request is wrong."""
        key = self.routes[call.path].key
        return key is not None and call.headers.get(key[0]) != f"{key[1]}{KEY}"

    def set_endpoints(self, db: psycopg.Connection) -> None:
        """What a reader types after the key has changed."""
        for statement in ENDPOINT.findall(self.sql):
            db.execute(statement)


@pytest.fixture(params=SERVICES)
def page(request: pytest.FixtureRequest, provider: LoopbackProvider, secrets: Secrets) -> Page:
    made = Page(request.param, SERVICES[request.param], provider)
    provider.fail(faults.status(401, b"{}"), when=made.refuses)
    secrets.store(made.secrets, KEY)
    return made


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> Iterator[LoopbackProvider]:
    service = SERVICES[request.node.callspec.params["page"]]
    with LoopbackProvider(service.dimensions, service.protocols) as made:
        yield made


def test_its_statements_embed_and_survive_a_wrong_key(
    page: Page, db: psycopg.Connection, provider: LoopbackProvider, secrets: Secrets
) -> None:
    db.execute(page.sql)
    assert {call.path for call in provider.calls} == set(page.routes)
    assert all(call.query == dict(page.routes[call.path].query) for call in provider.calls)
    drain_all(db)
    assert sum(provider.sent[text] for text in provider.sent if "Title" in text) == ROWS
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (ROWS,)
    _a_question_is_embedded(db, provider)
    _it_stops_and_goes_on(page, db, provider, secrets)


def _a_question_is_embedded(db: psycopg.Connection, provider: LoopbackProvider) -> None:
    provider.reset()
    assert db.execute("SELECT count(*) FROM embed_search('docs', 'a question', k => 3)").fetchone() == (3,)
    (text,) = provider.sent
    assert text.endswith("a question")


def _it_stops_and_goes_on(page: Page, db: psycopg.Connection, provider: LoopbackProvider, secrets: Secrets) -> None:
    """A wrong key, or a server that cannot answer: rows wait, its message is shown, and no attempt is lost."""
    status, body = page.service.error
    fault = faults.status(status, json.dumps(body).encode())
    provider.mend()
    if page.secrets:
        secrets.store(page.secrets, "sk-9876543210-wrong")
        provider.fail(fault, when=page.refuses)
    else:
        provider.fail(fault)
    db.execute("UPDATE docs SET body = 'Edited' WHERE id = 1")
    db.execute("SELECT embed_drain(max_runtime => '5 s')")
    assert status_of(db, "pending") == 1
    assert status_of(db, "failed") == 0
    said = status_of(db, "last_error")
    assert f"answered {status}" in said
    assert max(re.findall(r"[\w .]+", json.dumps(body)), key=len) in said
    secrets.store(page.secrets, KEY)
    if not page.secrets:
        provider.mend()
    page.set_endpoints(db)
    wait_until(lambda: drain_all(db) >= 0 and status_of(db, "pending") == 0, what="the edited row")
    assert db.execute("SELECT chunk, is_stale FROM docs_embedding WHERE id = 1").fetchone() == (
        "Title 1\n\nEdited",
        False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="the page says: as root")
def test_a_key_is_stored_as_the_page_of_secrets_says(database: psycopg.Connection, secrets: Secrets) -> None:
    made, stored = blocks(ROOT / "docs" / "how-to" / "secrets.md", "sh")[0].code.splitlines()
    set_endpoint = blocks(ROOT / "docs" / "how-to" / "secrets.md", "sql")[0].code
    look = "SELECT problem FROM embed_endpoints WHERE endpoint = 'openai'"
    (secrets.folder / "openai_key").unlink(missing_ok=True)
    database.execute(set_endpoint)
    assert "is neither a file" in database.execute(look).fetchone()[0]
    for command in (made, stored):
        words = command.replace("/etc/evergreen/secrets", str(secrets.folder)).split()
        subprocess.run(words, input=KEY, text=True, check=True)
    assert database.execute(look).fetchone() == (None,)


def test_every_page_is_run() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} - {"index.md"} == set(SERVICES)


def test_the_overview_has_each_page_with_its_url() -> None:
    rows = re.findall(r"^\| \[[\w ]+\]\(([\w-]+\.md)\) \| `(\w+)` \| `(\S+)` ", (FOLDER / "index.md").read_text(), re.M)
    assert [page for page, *_ in rows] == list(SERVICES)
    for page, provider, url in rows:
        text = (FOLDER / page).read_text()
        assert f"'{provider}'" in text
        assert url.replace("RESOURCE", "my-resource") in text
