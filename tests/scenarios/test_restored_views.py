"""Pipelines on views in a restored or cloned database: links are found by name, and captured again."""

import json

import pytest

from tests.fixtures.dumps import Place
from tests.fixtures.pipelines.freshness import drain, verify
from tests.integration.views.conftest import CREATE, DEPENDS, SHOP, stored, wanted

CHANGES = """
UPDATE product SET name = name || '!' WHERE id = 1;
UPDATE brand SET name = name || '?' WHERE id = 2;
UPDATE tag SET name = name || '.' WHERE id = 3;
INSERT INTO product_tag VALUES (4, 2);
"""


@pytest.fixture
def source(db, model, provider):
    """The shop's pipeline with a grouped view, a materialized view, and changes that wait."""
    db.execute("CREATE TABLE before_all (id int PRIMARY KEY, gone int)")
    db.execute(SHOP)
    db.execute(
        "ALTER TABLE brand ADD gone int; ALTER TABLE brand DROP gone; ALTER TABLE brand ADD slogan text DEFAULT 'x'"
    )
    db.execute(
        "CREATE VIEW counted AS SELECT p.id, p.name, count(x.tag_id)::text AS tags FROM product p"
        " LEFT JOIN product_tag x ON x.product_id = p.id GROUP BY p.id"
    )
    db.execute("CREATE MATERIALIZED VIEW listing AS SELECT id, name FROM products")
    db.execute(CREATE, [json.dumps(DEPENDS)])
    db.execute(
        "SELECT embed_create('counted', 'counted', columns => '{name,tags}', model => 'loop', key => '{id}', depends =>"
        ' \'{"product": {"id": "id"}, "product_tag": {"product_id": "id"}}\')'
    )
    db.execute("SELECT embed_create('listing', 'listing', columns => '{name}', model => 'loop', key => '{id}')")
    drain(db)
    db.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    db.execute("UPDATE tag SET name = 'crimson' WHERE id = 1")
    return db


def goes_on(db):
    """What waited is embedded, and each table's changes are captured."""
    drain(db)
    for change in CHANGES.strip().splitlines():
        db.execute(change)
        drain(db)
        assert stored(db) == wanted(db), change
    assert verify(db, "counted")["fresh"] == 4
    db.execute("REFRESH MATERIALIZED VIEW listing")
    drain(db)
    assert verify(db, "listing")["fresh"] == 4
    assert db.execute(
        "SELECT count(*) FROM embed_status WHERE state <> 'active' OR last_error IS NOT NULL"
    ).fetchone() == (0,)
    assert db.execute("SELECT depends FROM embed_pipelines WHERE pipeline = 'products'").fetchone() == (DEPENDS,)


@pytest.mark.few(1)
@pytest.mark.parametrize("place", [Place("same", "plain"), Place("other", "custom")], ids=lambda place: place.means)
def test_a_restored_view_goes_on_where_the_dump_stood(source, move, provider, place):
    provider.reset()
    restored = move(place)
    assert restored.execute("SELECT count(*) FROM products_embedding").fetchone() == (4,)
    goes_on(restored)
    assert all(times == 1 for times in provider.sent.values())


def test_a_cloned_view_goes_on(dsn, source, clone, provider):
    source.close()
    goes_on(clone())


@pytest.mark.stress
def test_ddl_before_the_first_worker(source, move):
    restored = move(Place("other", "custom"))
    restored.execute("ALTER TABLE tag RENAME TO label; ALTER TABLE label RENAME TO tag")
    restored.execute(
        "CREATE OR REPLACE VIEW brands AS SELECT b.id, upper(b.name) AS name, c.code"
        " FROM brand b LEFT JOIN country c ON c.code = b.country"
    )
    goes_on(restored)
