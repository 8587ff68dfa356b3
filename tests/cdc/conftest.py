"""A server whose WAL can be decoded, and in it what every test has: a database, sessions, a counting model."""

from collections.abc import Iterator

import psycopg
import pytest
from conftest import make_template

from evergreen_host.cluster import Cluster


@pytest.fixture(scope="session")
def logical() -> Iterator[Cluster]:
    """One server for all tests of these folders."""
    with Cluster(options={"wal_level": "logical", "shared_preload_libraries": "", "wal_writer_delay": "10ms"}) as made:
        make_template(made)
        yield made
