"""Changes that concern many rows: queued page by page, without starting over when the parent changes again."""

import json

import pytest

from tests.fixtures.pipelines.freshness import drain, verify
from tests.fixtures.pipelines.freshness import status as status_of
from tests.integration.views.conftest import CREATE, DEPENDS, stored, wanted

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]
MANY = 2500


@pytest.fixture
def many(shop, model):
    """The pipeline with so many more products of brand 2."""
    shop.execute("SELECT embed_model_add('hash8', 'hash', 8)")
    shop.execute("INSERT INTO product SELECT i, 'thing ' || i, 2, 1 FROM generate_series(1001, %s) i", [1000 + MANY])
    shop.execute("ANALYZE product, brand")
    shop.execute(CREATE.replace("'loop'", "'hash8'"), [json.dumps(DEPENDS)])
    drain(shop)
    assert stored(shop) == wanted(shop)
    return shop


def cursors(db):
    return db.execute(
        "SELECT link, paging, position, lap_end, wrapped, last_error FROM embed.link_cursor ORDER BY link"
    ).fetchall()


def queued(db):
    """Rows in the lane of bulk changes, or on their way to it."""
    jobs = "SELECT count(*) FROM embed.job WHERE lane = 1"
    return db.execute(f"SELECT ({jobs}) + (SELECT count(*) FROM embed.change_log WHERE bulk)").fetchone()[0]


def test_many_rows_are_queued_page_by_page_in_the_lane_of_bulk_changes(many):
    many.execute("UPDATE brand SET name = 'Breeze' WHERE id = 2")
    many.execute("UPDATE product SET name = 'chaise' WHERE id = 1")
    many.execute("SELECT embed_drain(max_rows => 1)")
    (cursor,) = cursors(many)
    assert cursor == ([2], True, [1999], None, False, None)
    assert stored(many)[1] == wanted(many)[1]  # the live change did not wait
    assert queued(many) == 1000
    drain(many)
    assert not cursors(many)
    assert stored(many) == wanted(many)


def test_a_parent_that_changes_again_does_not_start_over(many):
    many.execute("UPDATE brand SET name = 'Breeze' WHERE id = 2")
    many.execute("SELECT embed_drain(max_rows => 1000)")
    many.execute("UPDATE brand SET name = 'Bristol' WHERE id = 2")
    many.execute("SELECT embed_drain(max_rows => 1000)")
    assert cursors(many) == [([2], True, [2999], [1999], False, None)]
    many.execute("SELECT embed_drain(max_rows => 1000)")
    assert cursors(many) == [([2], True, None, [1999], True, None)]
    drain(many)
    assert not cursors(many)
    assert stored(many) == wanted(many)
    assert verify(many, "products")["fresh"] == len(wanted(many))


def test_a_hot_parent_leaves_one_row_in_the_queue(many):
    for number in range(30):
        many.execute("UPDATE brand SET name = 'B' || %s WHERE id = 2", [number])
        many.execute("SELECT embed_drain(max_rows => 500)")
    assert len(cursors(many)) == 1
    assert queued(many) <= 2000
    drain(many)
    assert stored(many) == wanted(many)


def test_a_page_waits_while_a_page_of_jobs_waits(many):
    many.execute("UPDATE brand SET name = 'Breeze' WHERE id = 2")
    for _ in range(5):
        many.execute("SELECT embed_drain(max_rows => 1)")
    assert queued(many) <= 2000
    drain(many)
    assert stored(many) == wanted(many)


def test_many_rows_that_lead_to_few_keys(db, model):
    """What is cut off at so many rows leaves out no key."""
    db.execute("CREATE TABLE word (id int PRIMARY KEY, name text)")
    db.execute("CREATE TABLE page (id int PRIMARY KEY, title text)")
    db.execute("CREATE TABLE use (page_id int, word_id int)")
    db.execute(
        "CREATE VIEW pages AS SELECT p.id, p.title, (SELECT string_agg(DISTINCT w.name, ' ') FROM use u"
        " JOIN word w ON w.id = u.word_id WHERE u.page_id = p.id) AS words FROM page p"
    )
    db.execute("INSERT INTO word VALUES (1, 'one')")
    db.execute("INSERT INTO page SELECT i, 'page ' || i FROM generate_series(1, 3) i")
    db.execute("INSERT INTO use SELECT i, 1 FROM generate_series(1, 3) i, generate_series(1, 900)")
    db.execute(
        "SELECT embed_create('pages', 'pages', columns => '{title,words}', model => 'loop', key => '{id}',"
        " depends => %s)",
        [json.dumps({"page": {"id": "id"}, "use": {"page_id": "id"}, "word": {"id": "use.word_id"}})],
    )
    drain(db)
    db.execute("UPDATE word SET name = 'eins'")
    drain(db)
    assert verify(db, "pages")["fresh"] == 3


def test_a_view_that_fails_says_why_and_loses_nothing(products):
    products.execute(
        "CREATE FUNCTION touchy(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF $1 = 'Boom' THEN RAISE 'not this one'; END IF; RETURN $1; END $$"
    )
    products.execute(
        "CREATE OR REPLACE VIEW brands AS SELECT b.id, touchy(b.name) AS name, c.code"
        " FROM brand b LEFT JOIN country c ON c.code = b.country WHERE touchy(b.name) <> 'x'"
    )
    drain(products)
    products.execute("UPDATE brand SET name = 'Boom' WHERE id = 1")
    products.execute("UPDATE brand SET name = 'Bravo' WHERE id = 2")
    drain(products)
    assert "not this one" in str(status_of(products, "products").last_error)
    products.execute("UPDATE brand SET name = 'Bounce' WHERE id = 1")
    products.execute("UPDATE embed.link_cursor SET ready_at = now()")
    products.execute("SELECT embed_retry('products')")
    products.execute("UPDATE embed.job SET ready_at = now()")
    drain(products)
    assert stored(products) == wanted(products)
    assert not cursors(products)
