"""A server whose WAL can be decoded, in the place of the usual one."""

import pytest

from evergreen_host.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(wal_cluster: Cluster) -> Cluster:
    """One server for all tests of the WAL."""
    return wal_cluster


@pytest.fixture
def pipeline(wal_pipeline: str) -> str:
    """Ten documents, drained, whose changes are read from the WAL."""
    return wal_pipeline
