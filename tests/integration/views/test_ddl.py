"""DDL on a view and on the tables under it works as if nothing captured them, and capture goes on."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import drain, verify
from tests.integration.views.conftest import stored, wanted

pytestmark = pytest.mark.shared_database

WRITES = """
UPDATE {product} SET name = name || '!' WHERE id = 1;
UPDATE {brand} SET name = name || '?' WHERE id = 2;
INSERT INTO {product_tag} VALUES (4, 2);
UPDATE {tag} SET name = name || '.' WHERE id = 3;
UPDATE {country} SET name = name || ',' WHERE code = 'de';
"""
TABLES = {name: name for name in ("product", "brand", "product_tag", "tag", "country")}


def follows(db, view="products", **renamed):
    """Each table's changes still reach the rows."""
    rows: list[tuple[int, str]] = []
    for write in WRITES.format(**(TABLES | renamed)).strip().splitlines():
        db.execute(write)
        drain(db)
        rows = db.execute(f"SELECT id, concat_ws(E'\\n\\n', name, brand, tags) FROM {view}").fetchall()
        assert stored(db) == dict(rows), write
    assert verify(db, "products")["fresh"] == len(rows)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("ddl", "renamed"),
    [
        ("ALTER TABLE brand RENAME name TO label; ALTER TABLE brand RENAME label TO name", {}),
        (
            "ALTER TABLE brand RENAME id TO n; ALTER TABLE brand RENAME n TO id",
            {},
        ),
        ("ALTER TABLE product_tag RENAME tag_id TO t; ALTER TABLE product_tag RENAME product_id TO p", {}),
        ("ALTER TABLE brand RENAME TO maker", {"brand": "maker"}),
        ("ALTER TABLE product_tag RENAME TO tagging", {"product_tag": "tagging"}),
        (
            "CREATE SCHEMA other; ALTER TABLE tag SET SCHEMA other; ALTER TABLE product SET SCHEMA other",
            {"tag": "other.tag", "product": "other.product"},
        ),
        ("ALTER VIEW products RENAME TO wares", {"view": "wares"}),
        ("ALTER VIEW products RENAME COLUMN brand_id TO maker", {}),
        ("ALTER TABLE brand ADD COLUMN size int DEFAULT 1, DROP COLUMN notes", {}),
        ("ALTER TABLE product ALTER price TYPE text", {}),
    ],
)
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_what_is_renamed_and_moved_is_followed(products, ddl, renamed, seen):
    if not seen:
        products.execute("SET session_replication_role = replica; ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE")
    products.execute(ddl)
    products.execute("RESET session_replication_role; ALTER EVENT TRIGGER evergreen_follow_ddl ENABLE ALWAYS")
    follows(products, **renamed)


def test_renames_are_shown_in_depends(products):
    products.execute(
        "ALTER TABLE product_tag RENAME tag_id TO t; ALTER TABLE product_tag RENAME TO tagging;"
        "ALTER VIEW products RENAME COLUMN brand_id TO maker"
    )
    (shown,) = products.execute("SELECT depends FROM embed_pipelines").fetchone()
    assert shown == {
        "product": {"id": "id"},
        "brand": {"id": "maker"},
        "country": {"code": "country"},
        "tagging": {"product_id": "id"},
        "tag": {"id": "tagging.t"},
    }


def test_a_replaced_view_is_checked_and_its_tables_are_derived_again(products, provider):
    products.execute(
        "CREATE OR REPLACE VIEW products AS SELECT p.id, upper(p.name) AS name, p.brand_id, b.country, b.name AS brand,"
        " NULL::text AS tags FROM product p LEFT JOIN brand b ON b.id = p.brand_id"
    )
    drain(products)
    assert stored(products) == wanted(products)
    assert len(provider.sent) == 4
    tables = {
        row[0]
        for row in products.execute(
            "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE 'evergreen_%'"
        ).fetchall()
    }
    assert tables == {"product", "brand"}
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    drain(products)
    assert stored(products) == wanted(products)


@pytest.mark.parametrize(
    "tables", ["brand b", "brand b LEFT JOIN country c ON c.code = b.country"], ids=["another", "the same"]
)
def test_a_nested_view_that_is_replaced_is_noticed(products, tables):
    """Also where it reads the same tables as before."""
    products.execute(
        f"CREATE OR REPLACE VIEW brands AS SELECT b.id, b.name || '!' AS name, b.country AS code FROM {tables}"
    )
    drain(products)
    assert stored(products) == wanted(products)


def test_a_table_that_comes_under_the_view_is_proposed(products):
    products.execute("CREATE TABLE review (id int PRIMARY KEY, product_id int REFERENCES product, body text)")
    definition = products.execute("SELECT pg_get_viewdef('products')").fetchone()[0].rstrip(";")
    products.execute(
        f"CREATE OR REPLACE VIEW products AS SELECT o.id, o.name, o.brand_id, o.country, o.brand,"
        f" concat(o.tags, (SELECT string_agg(body, ' ') FROM review r WHERE r.product_id = o.id)) AS tags"
        f" FROM ({definition}) o"
    )
    products.execute("INSERT INTO review VALUES (1, 1, 'good'), (2, 4, 'bad')")
    drain(products)
    assert stored(products) == wanted(products)
    assert products.execute("SELECT depends -> 'review' FROM embed_pipelines").fetchone() == ({"product_id": "id"},)
    products.execute("UPDATE review SET body = 'better' WHERE id = 2")
    drain(products)
    assert stored(products) == wanted(products)


def test_a_table_without_proposal_breaks_the_pipeline_until_the_view_is_back(products):
    definition = products.execute("SELECT pg_get_viewdef('products')").fetchone()[0]
    products.execute("CREATE TABLE motto (words text)")
    products.execute("INSERT INTO motto VALUES ('hello')")
    products.execute(
        f"CREATE OR REPLACE VIEW products AS SELECT o.id, o.name, o.brand_id, o.country, o.brand,"
        f" concat(o.tags, (SELECT words FROM motto)) AS tags FROM ({definition.rstrip(';')}) o"
    )
    state, why = products.execute("SELECT state, last_error FROM embed_status").fetchone()
    assert state == "broken"
    assert "public.motto" in why
    products.execute("UPDATE brand SET name = 'Apex' WHERE id = 1")
    products.execute(f"CREATE OR REPLACE VIEW products AS {definition}")
    drain(products)
    assert stored(products) == wanted(products)


@pytest.mark.parametrize(
    "ddl", ["DROP VIEW products CASCADE", "DROP TABLE brand CASCADE", "DROP TABLE product CASCADE"]
)
def test_a_drop_works_and_the_other_tables_log_nothing_more(products, ddl):
    products.execute(ddl)
    assert products.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
    products.execute("UPDATE tag SET name = 'x' WHERE id = 1")
    products.execute("UPDATE country SET name = 'x' WHERE code = 'de'")
    assert products.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)
    products.execute("SELECT embed_drop('products')")
    assert not products.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'evergreen_%'").fetchall()
    left = "SELECT proname FROM pg_proc WHERE pronamespace = 'embed_store'::regnamespace"
    assert not products.execute(left).fetchall()


def test_an_enum_value_that_is_renamed_under_a_cast_is_noticed(db, model):
    db.execute("CREATE TYPE mood AS ENUM ('ok', 'bad')")
    db.execute("CREATE TABLE person (id int PRIMARY KEY, mood mood)")
    db.execute("CREATE VIEW people AS SELECT id, mood::text AS mood FROM person")
    db.execute("INSERT INTO person VALUES (1, 'ok')")
    db.execute(
        "SELECT embed_create('people', 'people', columns => '{mood}', model => 'loop', key => '{id}',"
        ' depends => \'{"person": {"id": "id"}}\')'
    )
    drain(db)
    db.execute("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'")
    drain(db)
    assert db.execute("SELECT chunk FROM people_embedding").fetchall() == [("fine",)]


def test_partitions_under_a_view_come_and_go(db, model):
    db.execute("CREATE TABLE note (id int, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
    db.execute("CREATE TABLE note_1 PARTITION OF note FOR VALUES FROM (0) TO (10)")
    db.execute("CREATE TABLE topic (id int PRIMARY KEY, name text)")
    db.execute(
        "CREATE VIEW topics AS SELECT t.id, t.name, (SELECT string_agg(n.body, ' ' ORDER BY n.day) FROM note n"
        " WHERE n.id = t.id) AS notes FROM topic t"
    )
    db.execute("INSERT INTO topic VALUES (1, 'one'), (2, 'two')")
    db.execute("INSERT INTO note VALUES (1, 1, 'first')")
    db.execute(
        "SELECT embed_create('topics', 'topics', columns => '{name,notes}', model => 'loop', key => '{id}', depends =>"
        ' \'{"topic": {"id": "id"}, "note": {"id": "id"}}\')'
    )

    def fresh():
        drain(db)
        rows = db.execute("SELECT id, concat_ws(E'\\n\\n', name, notes) FROM topics").fetchall()
        return dict(db.execute("SELECT id, chunk FROM topics_embedding WHERE NOT is_stale").fetchall()) == dict(rows)

    assert fresh()
    for ddl in (
        "UPDATE note SET body = 'again'",
        "CREATE TABLE note_2 AS SELECT 2 AS id, 15 AS day, 'second'::text AS body",
        "ALTER TABLE note_2 ALTER id SET NOT NULL, ALTER day SET NOT NULL",
        "ALTER TABLE note ATTACH PARTITION note_2 FOR VALUES FROM (10) TO (20)",
        "UPDATE note_2 SET body = 'changed'",
        "ALTER TABLE note DETACH PARTITION note_1",
        "TRUNCATE note_2",
        "INSERT INTO note VALUES (2, 12, 'third')",
        "DROP TABLE note_2",
    ):
        db.execute(ddl)
        assert fresh(), ddl
    assert not db.execute("SELECT FROM pg_trigger WHERE tgrelid = 'note_1'::regclass AND NOT tgisinternal").fetchall()


def test_a_writer_of_an_open_session_goes_on_after_ddl(products, connect):
    other = connect()
    other.execute("UPDATE brand SET name = 'one' WHERE id = 1")
    products.execute("ALTER TABLE brand RENAME name TO label")
    other.execute("UPDATE brand SET label = 'two' WHERE id = 1")
    drain(products)
    assert stored(products) == wanted(products)


def test_the_owner_of_the_view_may_not_read_a_table(products):
    products.execute("DO $$ BEGIN CREATE ROLE alice LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    products.execute("GRANT USAGE, CREATE ON SCHEMA public TO alice")
    products.execute("ALTER VIEW products OWNER TO alice")
    products.execute("UPDATE product SET name = 'x' WHERE id = 1")
    products.execute("SELECT embed_drain()")
    (why,) = products.execute("SELECT last_error FROM embed_status").fetchone()
    assert "permission denied" in why
    products.execute("GRANT SELECT ON product, product_tag, tag, brand, country, brands TO alice")
    products.execute("UPDATE embed.job SET ready_at = now()")
    drain(products)
    assert stored(products) == wanted(products)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        products.execute("SET ROLE alice; SELECT * FROM embed.dependency")
    products.execute("RESET ROLE")


def test_depends_can_be_created_again_from_its_definition_after_ddl(products):
    products.execute("ALTER TABLE brand RENAME TO maker; ALTER TABLE maker RENAME id TO no")
    (definition,) = products.execute("SELECT embed_get_def('products')").fetchone()
    products.execute("SELECT embed_drop('products')")
    products.execute(definition)
    drain(products)
    assert stored(products) == wanted(products)
