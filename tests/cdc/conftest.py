"""A server whose WAL can be decoded, in the place of the usual one."""

from collections.abc import Iterator

import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.server.template import make_template
from tests.fixtures.wal import OPTIONS, work


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One server for all tests here."""
    with Cluster(options=OPTIONS) as made:
        make_template(made)
        yield made


@pytest.fixture
def pipeline(db, docs, model, provider):
    """Ten documents, drained, whose changes are read from the WAL; the provider's counters are at zero."""
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc',"
        ' options => \'{"slot_limit": "1 GB"}\')'
    )
    work(db)
    provider.reset()
    return "docs"
