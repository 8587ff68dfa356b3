"""embed_create on views: what is refused, what is proposed, and what is shown of it again."""

import json

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain
from tests.fixtures.pipelines.freshness import status as status_of
from tests.fixtures.roles import hash_model, people
from tests.integration.views.conftest import CREATE, DEPENDS, stored, wanted

pytestmark = pytest.mark.shared_database


def refused(db, depends, **arguments):
    given = {"source": "products", "columns": "{name}", "key": "{id}", "depends": json.dumps(depends), **arguments}
    with pytest.raises(psycopg.Error) as caught:
        db.execute(
            "SELECT embed_create('x', %(source)s, columns => %(columns)s, model => 'loop', key => %(key)s,"
            " depends => %(depends)s)",
            given,
        )
    return caught.value


def test_missing_tables_are_proposed_and_the_proposal_can_be_pasted(shop):
    error = refused(shop, None)
    assert error.diag.sqlstate == "22023"
    hint = str(error.diag.message_hint)
    proposed = json.loads(hint.partition("depends => '")[2].partition("'. null:")[0])
    assert proposed == DEPENDS
    shop.execute(CREATE, [json.dumps(proposed)])
    assert_fresh(shop, "products", 4)


def test_what_is_given_is_kept_in_the_proposal(shop):
    error = refused(shop, {"tag": None, "country": {"code": "country"}})
    assert '"tag": null' in str(error.diag.message_hint)
    assert "public.brand" in str(error.diag.message_primary)


@pytest.mark.parametrize(
    ("change", "sqlstate", "says"),
    [
        ({"tags": None}, "42P01", '"tags"'),
        ({"brand": {"nix": "brand_id"}}, "42703", '"nix"'),
        ({"brand": {"id": "nix"}}, "42703", '"nix"'),
        ({"brand": {"id": "name"}}, "42804", '"name"'),
        ({"brand": 5}, "22023", "public.brand"),
        ({"brand": []}, "22023", "public.brand"),
        ({"brand": {}}, "22023", "public.brand"),
        ({"tag": {"id": "product.brand_id"}, "product": {"id": "brand_id"}}, "22023", "public.product"),
    ],
)
def test_a_wrong_link_is_refused(shop, change, sqlstate, says):
    error = refused(shop, DEPENDS | change)
    assert (error.diag.sqlstate, says in str(error)) == (sqlstate, True), error
    assert error.diag.message_hint


@pytest.mark.parametrize(
    ("arguments", "sqlstate", "says"),
    [
        ({"key": None}, "42809", "products"),
        ({"key": "{nix}"}, "42703", 'column "nix" of view public.products does not exist'),
        ({"columns": "{nope}"}, "42703", 'column "nope" of view public.products does not exist'),
        ({"key": "{id,id}"}, "22023", "twice"),
        ({"key": "{id,NULL}"}, "22023", "a column of key is NULL or a list"),
        ({"key": "{{id,name}}"}, "22023", "a column of key is NULL or a list"),
        ({"source": "product"}, "22023", "public.product"),
        ({"source": "product", "key": None}, "22023", "public.product"),
    ],
)
def test_a_wrong_key_is_refused(shop, arguments, sqlstate, says):
    error = refused(shop, DEPENDS, **arguments)
    assert (error.diag.sqlstate, says in str(error)) == (sqlstate, True), error


def test_a_view_cannot_be_read_from_the_wal(shop):
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        shop.execute(CREATE.replace("model =>", "capture => 'cdc', model =>"), [json.dumps(DEPENDS)])
    shop.execute(CREATE, [json.dumps(DEPENDS)])
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        shop.execute("SELECT embed_capture_set('products', 'cdc')")


def test_depends_is_shown_and_recreates_the_pipeline(products):
    shown = products.execute("SELECT depends, key_columns FROM embed_pipelines").fetchone()
    assert shown == (DEPENDS, ["id"])
    (definition,) = products.execute("SELECT embed_get_def('products')").fetchone()
    products.execute(
        "SELECT embed_create('products', 'products', columns => '{name,brand,tags}', model => 'loop',"
        " key => '{id}', depends => %s, if_not_exists => true)",
        [json.dumps(DEPENDS)],
    )
    with pytest.raises(psycopg.errors.DuplicateObject, match="depends"):
        products.execute(
            "SELECT embed_create('products', 'products', columns => '{name,brand,tags}', model => 'loop',"
            " key => '{id}', depends => %s, if_not_exists => true)",
            [json.dumps(DEPENDS | {"tag": None})],
        )
    products.execute("SELECT embed_drop('products')")
    assert not products.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'evergreen_%'").fetchall()
    products.execute(definition)
    assert products.execute("SELECT depends FROM embed_pipelines").fetchone() == (DEPENDS,)
    assert_fresh(products, "products", 4)


def test_a_table_that_is_not_watched_changes_unnoticed_and_verify_sees_it(shop):
    shop.execute(CREATE, [json.dumps(DEPENDS | {"tag": None})])
    drain(shop)
    shop.execute("UPDATE tag SET name = 'dark red' WHERE id = 1")
    assert drain(shop) == 0
    assert shop.execute("SELECT id FROM products_embedding WHERE is_stale").fetchall() == [(1,)]
    assert dict(shop.execute("SELECT * FROM embed_verify('products', true)").fetchall())["stale"] == 1
    drain(shop)
    assert stored(shop) == wanted(shop)


def test_rows_with_one_key_are_given_up_and_the_others_go_on(products):
    products.execute(
        "CREATE OR REPLACE VIEW products AS SELECT p.id, p.name, p.brand_id, b.code AS country, b.name AS brand,"
        " t.name AS tags FROM product p LEFT JOIN brands b ON b.id = p.brand_id"
        " LEFT JOIN product_tag x ON x.product_id = p.id LEFT JOIN tag t ON t.id = x.tag_id"
    )
    products.execute("UPDATE product SET name = name || '!'")
    drain(products)
    failed = products.execute("SELECT key, message FROM embed_failures").fetchall()
    assert [key for key, _ in failed] == [[1]]
    assert "public.products has 2 rows with key [1]" in failed[0][1]
    products.execute("DELETE FROM product_tag WHERE product_id = 1 AND tag_id = 3")
    drain(products)
    assert stored(products) == wanted(products)
    assert status_of(products, "products").failed == 0


def test_a_row_without_key_is_left_out(products):
    products.execute(
        "CREATE OR REPLACE VIEW brands AS SELECT b.id, b.name || ' of ' || coalesce(c.name, 'nowhere') AS name, c.code"
        " FROM brand b LEFT JOIN country c ON c.code = b.country"
    )
    products.execute(
        "CREATE OR REPLACE VIEW products AS SELECT nullif(p.id, 4) AS id, p.name, p.brand_id, b.code AS country,"
        " b.name AS brand, NULL::text AS tags FROM product p LEFT JOIN brands b ON b.id = p.brand_id"
    )
    drain(products)
    assert dict(products.execute("SELECT * FROM embed_verify('products')").fetchall()) == {
        "fresh": 3,
        "stale": 0,
        "missing": 0,
        "orphan": 0,
        "mixed": 0,
    }
    assert status_of(products, "products").failed == 0


def test_a_preview_of_a_view(shop):
    rows = shop.execute("SELECT key, chunk FROM embed_preview('products', '{name,brand}', model => 'loop')").fetchall()
    assert len(rows) == 3


def test_capture_needs_the_right_to_make_triggers(shop):
    people(shop)
    hash_model(shop)
    create = CREATE.replace("'loop'", "'hash8'")
    shop.execute("GRANT CREATE, USAGE ON SCHEMA public TO alice")
    shop.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO alice")
    shop.execute("ALTER VIEW products OWNER TO alice")
    shop.execute("SET ROLE alice")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        shop.execute(create, [json.dumps(DEPENDS)])
    assert "GRANT TRIGGER ON public." in str(caught.value.diag.message_hint)
    shop.execute("RESET ROLE")
    shop.execute("GRANT TRIGGER ON country, brand, product, tag, product_tag TO alice")
    shop.execute("SET ROLE alice")
    shop.execute(create, [json.dumps(DEPENDS)])
    shop.execute("RESET ROLE")
    drain(shop)
    shop.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    drain(shop)
    assert stored(shop) == wanted(shop)
