"""The bill of a first embedding and of a rebuild, by requests and through a batch API, from embed_usage."""

import pytest

from evergreen_host.demo import corpus
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.providers.batches import SERVERS
from tests.integration.batches.lane import create, through

pytestmark = pytest.mark.bench

ROWS = 12_000  # of the demo's documents
PRICE = 0.02  # of a million tokens: text-embedding-3-small


def documents():
    """Rows of the demo's documents, of which one is longer than the models read."""
    return [(number, one.title, one.body[:8000]) for number, one in enumerate(corpus.best(ROWS).documents, 1)]


def bills(db, worker, via):
    """What embed_usage shows after the first embedding, and for the rebuild."""
    create(db, backfill_via=via, batch_min_texts=1000)
    cost = "SELECT sum(cost) FROM embed_usage"
    through(db, worker, timeout=600)
    assert_as_source(db)
    (first,) = db.execute(cost).fetchone()
    db.execute("SELECT embed_build('docs', template => 'passage: $title $body')")
    through(db, worker, timeout=600)
    (both,) = db.execute(cost).fetchone()
    db.execute("SELECT embed_promote('docs')")
    db.execute("SELECT embed_drop('docs')")
    through(db, worker)
    return first, both - first


@pytest.mark.parametrize("format_", SERVERS)
def test_the_bill(connect, db, docs, format_):
    with SERVERS[format_]() as api:
        api.register(db, price=PRICE)
        db.execute("TRUNCATE docs")
        with db.cursor() as cursor:
            cursor.executemany("INSERT INTO docs VALUES (%s, %s, %s)", documents())
        worker = connect()
        print()
        (first, rebuild), (half, half_rebuild) = (bills(db, worker, via) for via in ("requests", "batch"))
        for what, full, reduced in (("first embedding", first, half), ("rebuild", rebuild, half_rebuild)):
            print(f"{format_:8} {what:16} {full:.6f} by requests, {reduced:.6f} by batch: {reduced / full:.2f}")
        assert half / first == pytest.approx(half_rebuild / rebuild, abs=0.02)
        assert half < 0.7 * first
