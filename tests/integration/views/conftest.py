"""A shop: products with a brand and tags, countries under a nested view, and a pipeline on the view over all."""

import json

import pytest

from tests.fixtures.pipelines.documents import drain_all

SHOP = """
CREATE TABLE country (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE brand (id int PRIMARY KEY, name text NOT NULL, country text REFERENCES country, notes text);
CREATE TABLE product (id int PRIMARY KEY, name text, brand_id int REFERENCES brand, price numeric);
CREATE TABLE tag (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE product_tag (
    product_id int NOT NULL REFERENCES product ON UPDATE CASCADE ON DELETE CASCADE, tag_id int NOT NULL REFERENCES tag,
    PRIMARY KEY (product_id, tag_id));
CREATE VIEW brands AS SELECT b.id, b.name || ' of ' || coalesce(c.name, 'nowhere') AS name, c.code
FROM brand b LEFT JOIN country c ON c.code = b.country;
CREATE VIEW products AS
SELECT p.id, p.name, p.brand_id, b.code AS country, b.name AS brand,
       (SELECT string_agg(t.name, ', ' ORDER BY t.name)
        FROM product_tag x JOIN tag t ON t.id = x.tag_id WHERE x.product_id = p.id) AS tags
FROM product p LEFT JOIN brands b ON b.id = p.brand_id;
INSERT INTO country VALUES ('de', 'Germany'), ('fr', 'France');
INSERT INTO brand VALUES (1, 'Acme', 'de'), (2, 'Brio', 'fr'), (3, 'Coco', NULL);
INSERT INTO tag VALUES (1, 'red'), (2, 'blue'), (3, 'new');
INSERT INTO product VALUES (1, 'chair', 1, 10), (2, 'table', 1, 20), (3, 'lamp', 2, 5), (4, 'shelf', NULL, 7);
INSERT INTO product_tag VALUES (1, 1), (1, 3), (2, 2), (3, 3);
"""
DEPENDS = {
    "product": {"id": "id"}, "brand": {"id": "brand_id"}, "country": {"code": "country"},
    "product_tag": {"product_id": "id"}, "tag": {"id": "product_tag.tag_id"},
}  # fmt: skip
CREATE = """
SELECT embed_create('products', 'products', columns => '{name,brand,tags}', model => 'loop',
                    key => '{id}', depends => %s)
"""


@pytest.fixture
def shop(db, model):
    """The tables and views."""
    db.execute(SHOP)
    return db


@pytest.fixture
def products(shop, provider):
    """The pipeline, drained, with the provider's counters at zero."""
    shop.execute(CREATE, [json.dumps(DEPENDS)])
    drain_all(shop)
    provider.reset()
    return shop


def wanted(db):
    """The text of each row of the view, by its own query."""
    rows = db.execute("SELECT id, concat_ws(E'\\n\\n', name, brand, tags) FROM products").fetchall()
    return {key: text for key, text in rows if text}


def stored(db):
    """What is searched for each row."""
    return dict(db.execute("SELECT id, chunk FROM products_embedding WHERE NOT is_stale").fetchall())
