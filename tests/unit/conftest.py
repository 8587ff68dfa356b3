"""Unit tests have no server."""

import pytest

from evergreen_host.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Refuse to start one."""
    raise AssertionError("a unit test asks for a server: it belongs into tests/integration")
