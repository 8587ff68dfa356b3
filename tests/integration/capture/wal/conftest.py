"""A server whose WAL can be decoded, in the place of the usual one."""

import pytest
from pytest_postgresql.executors import NoopExecutor

from evergreen_host.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(wal_cluster: Cluster) -> Cluster:
    """One server for all tests of the WAL."""
    return wal_cluster


@pytest.fixture(scope="session")
def template(wal_template: NoopExecutor) -> NoopExecutor:
    """The database there that each test's is a copy of."""
    return wal_template


@pytest.fixture
def pipeline(wal_pipeline: str) -> str:
    """Ten documents, drained, whose changes are read from the WAL."""
    return wal_pipeline
