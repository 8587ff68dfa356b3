"""Materialized views: each REFRESH queues a check, and only changed texts are sent."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import drain, verify
from tests.integration.views.conftest import wanted

pytestmark = pytest.mark.shared_database


@pytest.fixture
def listed(shop, provider):
    """A materialized view over the shop's view, embedded."""
    shop.execute("CREATE MATERIALIZED VIEW listing AS SELECT * FROM products")
    shop.execute("CREATE UNIQUE INDEX ON listing (id)")
    shop.execute(
        "SELECT embed_create('listing', 'listing', columns => '{name,brand,tags}', model => 'loop', key => '{id}')"
    )
    drain(shop)
    assert stored(shop) == wanted(shop)
    provider.reset()
    return shop


def stored(db):
    return dict(db.execute("SELECT id, chunk FROM listing_embedding WHERE NOT is_stale").fetchall())


@pytest.mark.parametrize("concurrently", ["", "CONCURRENTLY "])
def test_a_refresh_sends_the_texts_that_changed(listed, provider, concurrently):
    listed.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    listed.execute("INSERT INTO product VALUES (5, 'bench', 2, 1)")
    listed.execute("DELETE FROM product WHERE id = 4")
    assert drain(listed) == 0
    listed.execute(f"REFRESH MATERIALIZED VIEW {concurrently}listing")
    drain(listed)
    assert stored(listed) == wanted(listed)
    assert len(provider.sent) == 3
    assert verify(listed, "listing")["fresh"] == 4
    provider.reset()
    listed.execute(f"REFRESH MATERIALIZED VIEW {concurrently}listing")
    drain(listed)
    assert not provider.sent


def test_a_refresh_that_is_rolled_back_queues_nothing(listed):
    listed.execute("BEGIN; REFRESH MATERIALIZED VIEW listing; ROLLBACK")
    assert listed.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)


def test_a_view_over_a_materialized_view_follows_its_refresh(listed):
    listed.execute("CREATE VIEW shown AS SELECT id, name, tags FROM listing")
    listed.execute("SELECT embed_create('shown', 'shown', columns => '{name,tags}', model => 'loop', key => '{id}')")
    drain(listed)
    listed.execute("UPDATE tag SET name = 'crimson' WHERE id = 1")
    listed.execute("REFRESH MATERIALIZED VIEW listing")
    drain(listed)
    assert listed.execute("SELECT count(*) FROM shown_embedding WHERE chunk LIKE '%crimson%'").fetchone() == (1,)


def test_one_that_is_not_populated_is_embedded_once_it_is(shop):
    shop.execute("CREATE MATERIALIZED VIEW listing AS SELECT * FROM products WITH NO DATA")
    shop.execute(
        "SELECT embed_create('listing', 'listing', columns => '{name,brand,tags}', model => 'loop', key => '{id}')"
    )
    shop.execute("SELECT embed_drain()")
    assert "populated" in str(shop.execute("SELECT last_error FROM embed_status").fetchone())
    shop.execute("REFRESH MATERIALIZED VIEW listing")
    drain(shop)
    assert stored(shop) == wanted(shop)


def test_manual_capture_leaves_the_refresh_to_you(listed):
    listed.execute("SELECT embed_capture_set('listing', 'manual')")
    listed.execute("UPDATE tag SET name = 'crimson' WHERE id = 1")
    listed.execute("REFRESH MATERIALIZED VIEW listing")
    assert drain(listed) == 0
    listed.execute("SELECT embed_touch('listing', '[1]')")
    drain(listed)
    assert stored(listed) == wanted(listed)
    listed.execute("SELECT embed_capture_set('listing', 'trigger')")
    drain(listed)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        listed.execute("SELECT embed_create('x', 'listing', columns => '{name}', key => '{id}', depends => '{}')")


def test_dropping_and_renaming_one(listed):
    listed.execute(
        "ALTER MATERIALIZED VIEW listing RENAME TO wares; ALTER MATERIALIZED VIEW wares RENAME COLUMN name TO title"
    )
    listed.execute("UPDATE product SET name = 'stool' WHERE id = 1; REFRESH MATERIALIZED VIEW wares")
    drain(listed)
    assert stored(listed) == wanted(listed)
    listed.execute("DROP MATERIALIZED VIEW wares")
    assert listed.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
    listed.execute("SELECT embed_drop('listing')")
