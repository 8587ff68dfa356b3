"""A pipeline on ten fresh rows, and sessions that stop where they are told."""

import pytest

from tests.fixtures.breakpoints import Stoppable
from tests.fixtures.pipelines.documents import drain_all


@pytest.fixture
def pipeline(db, docs, model, provider):
    """Ten documents, drained, with the provider's counters at zero."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.reset()
    return "docs"


@pytest.fixture
def stoppable(connect):
    """Opens a session that can be stopped at any step of its work."""
    return lambda: Stoppable(connect(), connect())
