"""Changes of tables under a view that interleave with each other and with a worker: none is lost."""

import pytest

from tests.fixtures.pipelines.freshness import drain, verify
from tests.fixtures.stress import often
from tests.integration.views.conftest import stored, wanted

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
# Where a worker stops: the values are queued, looked up, logged as keys; their cursor is gone; all of it is committed.
PLACES = [
    ("queue_links", "before"),
    ("queue_links", "after"),
    ("expanded", "before"),
    ("expanded", "after"),
    ("log_keys_of_link", "after"),
    ("delete_cursors", "after"),
    ("commit of look", "before"),
    ("commit of look", "after"),
]
#: What the worker has seen of the parent is older than a change that is committed before it goes on.
CLOSEST = [("expanded", "after"), ("log_keys_of_link", "after")]


def assert_fresh(db):
    drain(db)
    assert stored(db) == wanted(db)
    assert verify(db, "products")["fresh"] == len(wanted(db))
    assert db.execute("SELECT count(*) FROM embed.link_cursor").fetchone() == (0,)


@pytest.fixture
def late(connect):
    """A transaction of a level whose snapshot is taken, and that changes something then."""

    def begin(level, *changes):
        writer = connect(options="-c statement_timeout=5000")
        writer.execute(f"BEGIN ISOLATION LEVEL {level}")
        writer.execute("SELECT count(*) FROM products")
        for change in changes:
            writer.execute(change)
        return writer

    return begin


@pytest.mark.few(3)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("where", "when"), often(PLACES[2:6], *CLOSEST), ids=str)
def test_a_row_that_joins_during_the_look_up(products, connect, stoppable, late, where, when, level):
    """Its own log row brings it, with the text of the tag as it is by then."""
    worker = stoppable()
    writer = late(level, "INSERT INTO product_tag VALUES (4, 3)")
    products.execute("UPDATE tag SET name = 'newest' WHERE id = 3")
    assert worker.parked(WORK, where, when)
    writer.execute("COMMIT")
    worker.let_go()
    assert_fresh(products)


@pytest.mark.few(3)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("where", "when"), often(PLACES[2:6], *CLOSEST), ids=str)
def test_a_row_that_moves_to_a_parent_that_is_renamed(products, stoppable, late, where, when, level):
    worker = stoppable()
    writer = late(level, "UPDATE product SET brand_id = 2 WHERE id = 1")
    products.execute("UPDATE brand SET name = 'Breeze' WHERE id = 2")
    assert worker.parked(WORK, where, when)
    writer.execute("COMMIT")
    worker.let_go()
    assert_fresh(products)


@pytest.mark.parametrize("level", LEVELS)
def test_a_parent_whose_change_is_not_committed_yet(products, late, level):
    writer = late(level, "UPDATE brand SET name = 'Breeze' WHERE id = 2", "UPDATE tag SET name = 'newest' WHERE id = 3")
    products.execute("UPDATE product SET name = 'torch' WHERE id = 3")
    drain(products)
    assert stored(products) == wanted(products)
    writer.execute("COMMIT")
    assert products.execute("SELECT count(*) FROM products_embedding WHERE is_stale").fetchone() == (2,)
    assert_fresh(products)


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_snapshot_from_before_the_worker_looked(products, late, level):
    """It sees the tables as they were, and its changes count all the same."""
    writer = late(level)
    products.execute("UPDATE brand SET name = 'Breeze' WHERE id = 2")
    assert_fresh(products)
    writer.execute("UPDATE tag SET name = 'newest' WHERE id = 3")
    writer.execute("UPDATE product SET brand_id = 2 WHERE id = 2")
    writer.execute("COMMIT")
    assert_fresh(products)


def test_two_workers_at_the_same_values(products, connect, stoppable, provider):
    """While one looks them up, the other leaves the pipeline alone and waits for nothing; no text is sent twice."""
    worker = stoppable()
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    assert worker.parked(WORK, "expanded", "after")
    products.execute("UPDATE brand SET name = 'second' WHERE id = 1")
    products.execute("UPDATE product SET name = 'torch' WHERE id = 3")
    connect(options="-c statement_timeout=5000").execute("CALL embed_work(max_runtime => '1 s', until_empty => true)")
    assert provider.sent.total() == 0
    worker.let_go()
    assert_fresh(products)
    assert set(provider.sent.values()) == {1}


@pytest.mark.few(3)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("where", "when"), often(PLACES, *CLOSEST), ids=str)
def test_a_parent_that_changes_again_while_a_worker_queues_its_rows(products, connect, stoppable, level, where, when):
    worker = stoppable()
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    assert worker.parked(WORK, where, when)
    other = connect()
    other.execute(f"BEGIN ISOLATION LEVEL {level}")
    other.execute("UPDATE brand SET name = 'second' WHERE id = 1")
    other.execute("UPDATE country SET name = 'Bavaria' WHERE code = 'de'")
    other.execute("COMMIT")
    worker.let_go()
    assert_fresh(products)


@pytest.mark.few(1)
@pytest.mark.parametrize(("where", "when"), often(PLACES, *CLOSEST, ("commit of look", "before")), ids=str)
def test_a_worker_that_is_killed_leaves_everything_to_the_next(products, stoppable, provider, where, when):
    worker = stoppable()
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    assert worker.parked(WORK, where, when)
    products.execute("SELECT pg_terminate_backend(%s, 5000)", [worker.pid])
    assert_fresh(products)
    assert sorted(provider.sent.values()) == [1, 1]


def test_an_open_drain_holds_up_its_own_values_only(products, connect):
    """It has made cursors of them; a worker works around these."""
    other = connect()
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    other.execute("BEGIN")
    other.execute("SELECT embed_drain()")
    products.execute("UPDATE brand SET name = 'second' WHERE id = 1")
    products.execute("UPDATE brand SET name = 'other' WHERE id = 2")
    products.execute("CALL embed_work(max_runtime => '1 s', until_empty => true)")
    assert stored(products)[3] == wanted(products)[3]
    other.execute("COMMIT")
    assert_fresh(products)


def test_writers_wait_for_no_worker(products, connect, stoppable):
    worker = stoppable()
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    assert worker.parked(WORK, "log_keys_of_link", "before")  # what was read is locked no more
    writer = connect(options="-c lock_timeout=100 -c statement_timeout=2000")
    for change in (
        "UPDATE brand SET name = 'second' WHERE id = 1",
        "TRUNCATE product_tag",
        "ALTER TABLE product ADD COLUMN more int",
        "DELETE FROM product WHERE id = 2",
    ):
        writer.execute(change)
    worker.let_go()
    assert_fresh(products)


def test_waiting_until_a_change_of_a_parent_is_searchable(products, connect):
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    assert products.execute("SELECT embed_wait('products', '[1]', '0.2 s')").fetchone() == (False,)
    assert products.execute("SELECT embed_wait('products', timeout => '0.2 s')").fetchone() == (False,)
    connect().execute(WORK)
    assert products.execute("SELECT embed_wait('products', '[1]')").fetchone() == (True,)
    assert products.execute("SELECT embed_wait('products')").fetchone() == (True,)


def test_a_row_is_explained_by_the_table_that_changed(products):
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    explained = products.execute("SELECT embed_explain('products', '[1]')").fetchone()[0]
    assert "changes of public.brand since" in explained
    products.execute("SELECT embed_setting('lease')")
    products.execute("UPDATE product_tag SET tag_id = 2 WHERE product_id = 3")
    products.execute("SELECT embed_drain(max_rows => 1)")
    told = [products.execute("SELECT embed_explain('products', %s)", [f"[{key}]"]).fetchone()[0] for key in (1, 2, 3)]
    assert any("by a change of public.brand" in text or "of public.brand since" in text for text in told)
    assert "public.product_tag" in told[2] or "fresh" in told[2]


def test_what_replication_applies_is_captured_too(products):
    products.execute("SET session_replication_role = replica")
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    products.execute("RESET session_replication_role")
    assert_fresh(products)


def test_two_pipelines_on_one_table_log_two_rows(products):
    products.execute(
        "SELECT embed_create('brands', 'brands', columns => '{name}', model => 'loop', key => '{id}',"
        ' depends => \'{"brand": {"id": "id"}, "country": {"code": "code"}}\')'
    )
    drain(products)
    products.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    assert products.execute("SELECT count(*) FROM embed.change_log").fetchone() == (2,)
    assert_fresh(products)
