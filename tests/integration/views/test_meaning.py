"""On a view, everything means what it means on a table: search, filters, generations, verification, row security."""

import json

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import drain, verify
from tests.fixtures.roles import hash_model, people
from tests.integration.views.conftest import CREATE, DEPENDS, stored, wanted

pytestmark = pytest.mark.shared_database


def test_search_filters_and_rows(products):
    found = products.execute("SELECT key, is_stale FROM embed_search('products', 'chair', k => 4)").fetchall()
    assert {key[0] for key, _ in found} == {1, 2, 3, 4}
    found = products.execute(
        "SELECT key FROM embed_search('products', 'chair', filter => %s)",
        [json.dumps({"brand_id": 1, "tags": {"like": "%red%"}})],
    ).fetchall()
    assert found == [([1],)]
    rows = products.execute("SELECT (row).* FROM embed_search_rows(NULL::products, 'chair', k => 4)").fetchall()
    assert sorted(rows) == sorted(products.execute("SELECT * FROM products").fetchall(), key=lambda row: row[0])
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    stale = products.execute("SELECT key FROM embed_search('products', 'chair', k => 4) WHERE is_stale").fetchall()
    assert sorted(stale) == [([1],), ([2],)]
    hidden = products.execute("SELECT key FROM embed_search('products', 'chair', k => 4, stale => 'hide')").fetchall()
    assert sorted(hidden) == [([3],), ([4],)]


def test_a_generation_is_built_and_both_are_kept_fresh(products):
    hash_model(products)
    products.execute("SELECT embed_build('products', model => 'hash8', columns => '{brand}')")
    drain(products)
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    products.execute("UPDATE tag SET name = 'crimson' WHERE id = 1")
    drain(products)
    assert stored(products) == wanted(products)
    products.execute("SELECT embed_promote('products')")
    shown = dict(products.execute("SELECT id, chunk FROM products_embedding WHERE NOT is_stale").fetchall())
    assert shown == {1: "Apex of Germany", 2: "Apex of Germany", 3: "Brio of France"}
    products.execute("SELECT embed_rollback('products')")
    assert stored(products) == wanted(products)


def test_chunkers_templates_and_only_if(shop):
    shop.execute(
        "CREATE VIEW shown AS SELECT o.id, o.brand, o.tags, p.price > 6 AS dear"
        " FROM products o JOIN product p ON p.id = o.id"
    )
    depends = DEPENDS | {"brand": {"id": "id"}, "country": None, "tag": None}
    with pytest.raises(psycopg.Error):
        shop.execute("SELECT embed_create('shown', 'shown', template => 'x', key => '{id}')")
    shop.execute(
        "SELECT embed_create('shown', 'shown', template => '$brand has $tags', only_if => 'dear', model => 'loop',"
        " chunker => embed_chunk_text(5), key => '{id}', depends => %s)",
        [json.dumps(depends)],
    )
    drain(shop)
    chunks = "SELECT string_agg(chunk, '' ORDER BY chunk_no) FROM shown_embedding WHERE id = 2"
    assert "blue" in shop.execute(chunks).fetchone()[0]
    assert {row[0] for row in shop.execute("SELECT id FROM shown_embedding").fetchall()} == {1, 2, 4}
    shop.execute("UPDATE product SET price = 100 WHERE id = 3")
    drain(shop)
    assert {row[0] for row in shop.execute("SELECT id FROM shown_embedding").fetchall()} == {1, 2, 3, 4}


def test_writes_past_the_triggers_are_found_and_repaired(products):
    products.execute("ALTER TABLE brand DISABLE TRIGGER ALL")
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    products.execute("ALTER TABLE brand ENABLE TRIGGER ALL")
    assert dict(products.execute("SELECT * FROM embed_verify('products', true)").fetchall())["stale"] == 2
    drain(products)
    assert stored(products) == wanted(products)
    products.execute("UPDATE brand SET name = 'Again' WHERE id = 1")
    drain(products)
    assert stored(products) == wanted(products)


def test_pausing_touching_forgetting_and_capturing_by_hand(products, provider):
    products.execute("SELECT embed_pause('products')")
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    assert drain(products) == 0
    products.execute("SELECT embed_resume('products')")
    drain(products)
    assert stored(products) == wanted(products)
    products.execute("SELECT embed_capture_set('products', 'manual')")
    assert not products.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'evergreen_%'").fetchall()
    products.execute("UPDATE brand SET name = 'Other' WHERE id = 1")
    assert drain(products) == 0
    products.execute("SELECT embed_touch('products', '[1]', '[2]')")
    drain(products)
    assert stored(products) == wanted(products)
    products.execute("SELECT embed_capture_set('products', 'trigger')")
    products.execute("UPDATE brand SET name = 'Third' WHERE id = 1")
    drain(products)
    assert stored(products) == wanted(products)
    products.execute("DELETE FROM product WHERE id = 1")
    drain(products)
    products.execute("SELECT embed_forget('products', '[1]')")
    assert products.execute("SELECT count(*) FROM embed.document WHERE key = '[1]'").fetchone() == (0,)


def test_compute_outside_claims_what_a_parent_changed(products):
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    texts = products.execute("SELECT text FROM embed_claim('products', 10)").fetchall()
    assert sorted(text.split("\n")[0] for (text,) in texts) == ["chair", "table"]


TABLE = '"Odd Schema"."it\'s a ""table"""'
PARENT = '"Odd Schema"."parent\'s"'
ODD = f"""
CREATE SCHEMA "Odd Schema";
CREATE TABLE {TABLE} ("Key A" uuid, "key.b" numeric, "$text" text, PRIMARY KEY ("Key A", "key.b"));
CREATE TABLE {PARENT} ("when" timestamptz PRIMARY KEY, "name ""x" text);
ALTER TABLE {TABLE} ADD "of" timestamptz REFERENCES {PARENT};
CREATE VIEW "a $view$" AS
SELECT c."Key A" AS "k'1", c."key.b" AS "K 2", c."$text" AS "t""1", c."of" AS "at", p."name ""x" AS "p$"
FROM {TABLE} c LEFT JOIN {PARENT} p ON p."when" = c."of";
INSERT INTO {PARENT} VALUES ('2020-01-01 12:00:00.000001+00', 'one'), ('infinity', 'two');
INSERT INTO {TABLE} VALUES
    ('00000000-0000-0000-0000-000000000001', 1.50, 'first', '2020-01-01 12:00:00.000001+00'),
    ('00000000-0000-0000-0000-000000000001', 2.0, 'second', 'infinity'),
    ('00000000-0000-0000-0000-00000000000a', 1e20, 'third', NULL);
"""
CHANGES = (
    f"""UPDATE {PARENT} SET "name ""x" = 'uno' WHERE "name ""x" = 'one\'""",
    f"""UPDATE {PARENT} SET "name ""x" = 'due' WHERE "name ""x" = 'two\'""",
    f"""UPDATE {TABLE} SET "$text" = 'primo' WHERE "key.b" = 1.5""",
    f"""UPDATE {TABLE} SET "key.b" = 3.10, "$text" = 'tre' WHERE "key.b" = 1e20""",
    f"""DELETE FROM {TABLE} WHERE "key.b" = 3.1""",
)


def test_odd_names_and_types(db, model):
    db.execute(ODD)
    depends = {'Odd Schema.it\'s a "table"': {"key.b": "K 2", "Key A": "k'1"}, PARENT: {"when": "at"}}
    db.execute(
        "SELECT embed_create('odd', 'public.\"a $view$\"', columns => ARRAY['t\"1', 'p$'], model => 'loop',"
        " key => ARRAY['k''1', 'K 2'], depends => %s)",
        [json.dumps(depends)],
    )

    def fresh():
        drain(db)
        now = db.execute('SELECT concat_ws(E\'\\n\\n\', "t""1", "p$") FROM "a $view$" ORDER BY 1').fetchall()
        return now == db.execute("SELECT chunk FROM odd_embedding WHERE NOT is_stale ORDER BY 1").fetchall()

    assert fresh()
    db.execute("SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'")
    for change in CHANGES:
        db.execute(change)
        assert fresh(), change
    shown = db.execute("SELECT depends FROM embed_pipelines").fetchone()[0]
    assert shown == {
        'Odd Schema.it\'s a "table"': {"key.b": "K 2", "Key A": "k'1"},
        "Odd Schema.parent's": {"when": "at"},
    }
    definition = db.execute("SELECT embed_get_def('odd')").fetchone()[0]
    db.execute("SELECT embed_drop('odd')")
    db.execute(definition)
    assert fresh()


def test_text_that_is_equal_but_not_the_same(db, model):
    """A link by such a type is never taken for a key: its text in the table may differ from that in the view."""
    db.execute("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    db.execute("CREATE TABLE item (sku text COLLATE loose PRIMARY KEY, name text)")
    db.execute("CREATE TABLE note (id int PRIMARY KEY, sku text COLLATE loose, body text COLLATE loose)")
    db.execute(
        "CREATE VIEW items AS SELECT i.sku, i.name, (SELECT string_agg(n.body, ' ' ORDER BY n.id) FROM note n"
        " WHERE n.sku = i.sku) AS notes FROM item i"
    )
    db.execute("INSERT INTO item VALUES ('ab', 'thing')")
    db.execute(
        "SELECT embed_create('items', 'items', columns => '{name,notes}', model => 'loop', key => '{sku}',"
        ' depends => \'{"item": {"sku": "sku"}, "note": {"sku": "sku"}}\')'
    )
    drain(db)
    db.execute("INSERT INTO note VALUES (1, 'AB', 'noted')")
    drain(db)
    assert db.execute("SELECT chunk FROM items_embedding").fetchall() == [("thing\n\nnoted",)]
    db.execute("UPDATE note SET body = 'NOTED'")
    drain(db)
    assert db.execute("SELECT chunk FROM items_embedding").fetchall() == [("thing\n\nNOTED",)]


def test_a_table_that_is_read_twice(db, model):
    db.execute("CREATE TABLE category (id int PRIMARY KEY, parent_id int REFERENCES category, name text)")
    db.execute(
        "CREATE VIEW categories AS SELECT c.id, c.name, c.parent_id, p.name AS parent FROM category c"
        " LEFT JOIN category p ON p.id = c.parent_id"
    )
    db.execute("INSERT INTO category VALUES (1, NULL, 'all'), (2, 1, 'some'), (3, 1, 'few'), (4, 2, 'one')")
    db.execute(
        "SELECT embed_create('categories', 'categories', columns => '{name,parent}', model => 'loop', key => '{id}',"
        ' depends => \'{"category": [{"id": "id"}, {"id": "parent_id"}]}\')'
    )
    drain(db)
    db.execute("UPDATE category SET name = 'everything' WHERE id = 1")
    db.execute("UPDATE category SET parent_id = 3 WHERE id = 4")
    drain(db)
    assert verify(db, "categories")["fresh"] == 4
    assert db.execute("SELECT depends FROM embed_pipelines").fetchone() == (
        {"category": [{"id": "id"}, {"id": "parent_id"}]},
    )


def test_row_security_under_a_view_is_an_error_and_not_a_part_of_the_rows(products):
    people(products)
    products.execute("GRANT USAGE, CREATE ON SCHEMA public TO alice")
    products.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO alice")
    products.execute("ALTER TABLE product ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON product USING (id < 2)")
    products.execute("ALTER VIEW products OWNER TO alice")
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    products.execute("SELECT embed_drain()")
    assert "row-level security" in products.execute("SELECT last_error FROM embed_status").fetchone()[0]
    products.execute("ALTER VIEW products OWNER TO postgres")
    products.execute("UPDATE embed.link_cursor SET ready_at = now(); UPDATE embed.job SET ready_at = now()")
    drain(products)
    assert stored(products) == wanted(products)


def test_readers_see_the_rows_that_the_view_shows_them(shop):
    people(shop)
    shop.execute(
        "CREATE VIEW mine WITH (security_barrier) AS SELECT p.id, p.name, b.name AS brand, b.id AS brand_id"
        " FROM product p"
        " JOIN brand b ON b.id = p.brand_id WHERE b.name = current_user OR current_user = 'postgres'"
    )
    shop.execute(
        "SELECT embed_create('mine', 'mine', columns => '{name}', model => 'loop', key => '{id}', depends =>"
        ' \'{"product": {"id": "id"}, "brand": {"id": "brand_id"}}\')'
    )
    shop.execute("UPDATE brand SET name = 'alice' WHERE id = 1")
    drain(shop)
    shop.execute("GRANT SELECT ON mine, mine_embedding TO alice, bob")
    shop.execute("UPDATE product SET name = 'secret', brand_id = 1 WHERE id = 3")
    shop.execute("SET ROLE alice")
    assert shop.execute("SELECT id, chunk FROM mine_embedding ORDER BY id").fetchall() == [(1, "chair"), (2, "table")]
    shop.execute("SET ROLE bob")
    assert shop.execute("SELECT id, chunk FROM mine_embedding").fetchall() == []
    shop.execute("RESET ROLE")
    assert (3, "lamp") in shop.execute("SELECT id, chunk FROM mine_embedding").fetchall()


def test_a_security_invoker_view(shop):
    people(shop)
    shop.execute("ALTER VIEW products SET (security_invoker); ALTER VIEW brands SET (security_invoker)")
    shop.execute(CREATE, [json.dumps(DEPENDS)])
    drain(shop)
    shop.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    drain(shop)
    assert stored(shop) == wanted(shop)
    shop.execute("GRANT SELECT ON products, products_embedding TO bob")
    shop.execute("SET ROLE bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shop.execute("SELECT chunk FROM products_embedding")
    shop.execute("RESET ROLE")
