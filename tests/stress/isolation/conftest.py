"""A second provider with nothing wrong, and a worker."""

import psycopg
import pytest

from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import Background
from tests.stress.isolation.pipelines import WORK


@pytest.fixture
def healthy():
    """Another server, with nothing wrong."""
    with LoopbackProvider() as made:
        yield made


@pytest.fixture
def worker(connect):
    """A worker, stopped at the end."""
    connection = connect()
    work = Background(connection, WORK)
    yield work
    connection.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
