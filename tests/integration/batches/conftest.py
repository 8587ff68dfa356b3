"""The servers of the batch APIs as fixtures."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.fixtures.providers.batches import SERVERS, BatchProvider
from tests.integration.batches.lane import fill

ROWS = 30


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[BatchProvider]:
    """A batch API; OpenAI's, unless the test is parametrized by a format."""
    with SERVERS[getattr(request, "param", "openai")]() as made:
        yield made


@pytest.fixture
def lane(db: psycopg.Connection[Any], docs: str, api: BatchProvider) -> BatchProvider:
    """The batch API, registered as model ``loop``, and 30 rows."""
    api.register(db, price=1_000_000)  # a token costs 1
    fill(db, ROWS)
    return api
