"""One server with pg_cron for all its tests. Its scenario takes two minutes, so it starts first and is checked last."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.scenarios.cron_story import CronStory


def pytest_configure(config: pytest.Config) -> None:
    """The two marks by which the story runs beside all other tests."""
    config.addinivalue_line("markers", "begins: runs before all others, because what it starts takes its time")
    config.addinivalue_line("markers", "ends: runs after all others, when what was started is over")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the beginning first and the end last."""
    items.sort(key=lambda item: -1 if item.get_closest_marker("begins") else bool(item.get_closest_marker("ends")))


@pytest.fixture(scope="session")
def cron_cluster() -> Iterator[Cluster]:
    """A server whose pg_cron lives in database ``home``; ``away`` has evergreen only."""
    with Cluster(options={"cron.database_name": "home"}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as admin:
            for name in ("home", "away"):
                admin.execute(f"CREATE DATABASE {name}")
                with psycopg.connect(made.dsn(name), autocommit=True) as db:
                    db.execute("CREATE EXTENSION evergreen CASCADE")
        yield made


@pytest.fixture(scope="session")
def cron_story(cron_cluster: Cluster) -> Iterator[CronStory]:
    """The story, told by a thread of its own."""
    with LoopbackProvider() as provider:
        story = CronStory(cron_cluster, provider)
        story.begin()
        threading.Thread(target=story.tell, daemon=True).start()
        yield story
        story.over.wait(1)


@pytest.fixture
def home(cron_cluster: Cluster) -> Iterator[psycopg.Connection]:
    """A session where pg_cron lives."""
    with psycopg.connect(cron_cluster.dsn("home"), autocommit=True) as db:
        yield db


@pytest.fixture
def away(cron_cluster: Cluster) -> Iterator[psycopg.Connection]:
    """A session in the other database."""
    with psycopg.connect(cron_cluster.dsn("away"), autocommit=True) as db:
        yield db
