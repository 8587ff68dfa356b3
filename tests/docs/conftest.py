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


@pytest.fixture
def environment(page_cluster: Cluster) -> Callable[[], dict[str, str]]:
    """Make an empty database, and return the environment in which psql and evergreen find it, and are found."""

    def make() -> dict[str, str]:
        name = f"page_{next(_numbers)}"
        janitor(page_cluster, name).init()
        folders = [Path(sys.executable).parent, page_cluster.postgres.bindir, os.environ["PATH"]]
        path = os.pathsep.join(map(str, folders))
        where = {"PGHOST": str(page_cluster.root), "PGPORT": str(page_cluster.port)}
        place = {**where, "PGUSER": "postgres", "PGDATABASE": name}
        return {**os.environ, **place, "PATH": path}

    return make


@pytest.fixture
def reader(environment: Callable[[], dict[str, str]]) -> Iterator[psycopg.Connection]:
    """A session in a database of its own, where the README's tutorial has been followed."""
    env = environment()
    place = {"host": env["PGHOST"], "port": env["PGPORT"], "dbname": env["PGDATABASE"], "user": env["PGUSER"]}
    with psycopg.connect(**place, autocommit=True) as session:
        session.execute(tutorial())
        yield session
