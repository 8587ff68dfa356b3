"""What every test of the extension stands on: a server a run, a database a test, a provider that counts."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import settings

from evergreen_host.cluster import Cluster
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.server.template import make_template

Connection = psycopg.Connection[tuple[Any, ...]]
_numbers = count(1)

# A busy machine is no fault of an example's.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


# Whole files that `make test` has no time for, and `make attack` has: each goes through every step, kind or server of
# something that a shorter file of the default run looks at, too.
LONG = frozenset(
    {
        "test_backfills.py",
        "test_wal_steps.py",
        "test_wal_keys.py",
        "test_slot.py",
        "test_replica_identity.py",
        "test_killed_readers.py",
        "test_huge_transaction.py",
        "test_ray.py",
        "test_import_pgai.py",
        "test_distribution.py",
        "test_ddl_from_afar.py",
        "test_search_quality.py",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in long files, before markers choose; give what is long on purpose the time for it."""
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.attack)
        if any(item.get_closest_marker(name) for name in ("attack", "bench", "root")):
            item.add_marker(pytest.mark.timeout(7200))
        elif item.path.parent.name == "chaos":
            item.add_marker(pytest.mark.timeout(420 + float(item.config.getoption("--chaos-seconds"))))


def pytest_addoption(parser: pytest.Parser) -> None:
    """What tests/chaos is played with."""
    parser.addoption("--chaos-seed", default=None, help="play the chaos test of this seed (default: a new one)")
    parser.addoption("--chaos-seconds", default="25", help="how long writers, workers and the reaper go on")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One server for the whole run; tests that crash or restart a server start their own."""
    with Cluster() as made:
        make_template(made)
        yield made


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    """The DSN of a fresh database with the extension, dropped afterwards."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE evergreen_template")
        yield cluster.dsn(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connect(dsn: str) -> Iterator[Callable[..., Connection]]:
    """Open sessions in the test's database: ``connect(user='alice', autocommit=False)``; all are closed afterwards."""
    opened: list[Connection] = []

    def open_one(user: str | None = None, *, autocommit: bool = True, **options: Any) -> Connection:
        role = {"options": f"-c role={user}"} if user is not None else {}
        opened.append(psycopg.connect(dsn, autocommit=autocommit, **role, **options))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def db(connect: Callable[..., Connection]) -> Connection:
    """A superuser's session in autocommit mode."""
    return connect()


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A model behind HTTP on loopback that counts what it is sent, waits, and fails on demand."""
    with LoopbackProvider() as made:
        yield made


@pytest.fixture
def model(db: Connection, provider: LoopbackProvider) -> str:
    """The provider's model, registered in the test's database as ``loop`` (8 dimensions)."""
    provider.register(db)
    return "loop"


@pytest.fixture
def docs(db: Connection) -> str:
    """A table ``docs(id, title, body, n)`` with ten rows."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
    return "docs"
