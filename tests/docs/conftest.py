"""A server with wal_level = logical, as docs/how-to/cdc.md requires, and databases in which a reader follows a page."""

import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.docs.pages import tutorial
from tests.fixtures.server.template import janitor

_numbers = count(1)


@pytest.fixture(scope="package")
def page_cluster() -> Iterator[Cluster]:
    """One server for all pages."""
    with Cluster(options={"wal_level": "logical", "wal_writer_delay": "10ms"}) as made:
        yield made


def _empty_database(cluster: Cluster) -> dict[str, str]:
    name = f"page_{next(_numbers)}"
    janitor(cluster, name).init()
    folders = [Path(sys.executable).parent, cluster.postgres.bindir, os.environ["PATH"]]
    path = os.pathsep.join(map(str, folders))
    where = {"PGHOST": str(cluster.root), "PGPORT": str(cluster.port)}
    return {**os.environ, **where, "PGUSER": "postgres", "PGDATABASE": name, "PATH": path}


@pytest.fixture
def environment(page_cluster: Cluster) -> Callable[[], dict[str, str]]:
    """Make an empty database, and return the environment in which psql and evergreen find it, and are found."""
    return lambda: _empty_database(page_cluster)


@pytest.fixture(scope="module")
def module_environment(page_cluster: Cluster) -> dict[str, str]:
    """The environment of an empty database for all tests of a file."""
    return _empty_database(page_cluster)


@pytest.fixture
def reader(environment: Callable[[], dict[str, str]]) -> Iterator[psycopg.Connection]:
    """A session in a database of its own, where the README's tutorial has been followed."""
    env = environment()
    place = {"host": env["PGHOST"], "port": env["PGPORT"], "dbname": env["PGDATABASE"], "user": env["PGUSER"]}
    with psycopg.connect(**place, autocommit=True) as session:
        session.execute(tutorial())
        yield session
