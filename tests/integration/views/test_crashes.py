"""Tables under a view change in transactions that are in doubt, and workers are killed with their server."""

import json

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.breakpoints import Stoppable, commit_of
from tests.fixtures.endings import after_crash
from tests.fixtures.pipelines.freshness import drain, verify
from tests.integration.views.conftest import CREATE, DEPENDS, SHOP, stored, wanted

pytestmark = pytest.mark.slow

WORK = "CALL embed_work(until_empty => true, max_runtime => '20 s')"
MANY = 2500
#: Of values with few rows, and of a page of the rows of a value with many.
KILLED_AT = [
    ("UPDATE tag SET name = '{}' WHERE id = 3", "log_keys_of_link", "after"),
    ("UPDATE tag SET name = '{}' WHERE id = 3", commit_of("look"), "before"),
    ("UPDATE brand SET name = '{}' WHERE id = 2", "move", "after"),
    ("UPDATE brand SET name = '{}' WHERE id = 2", commit_of("look"), "after"),
]


@pytest.fixture(scope="module")
def server():
    """A server that takes prepared transactions, and that a test may crash."""
    with Cluster(options={"shared_preload_libraries": "", "max_prepared_transactions": 20}) as made:
        yield made


@pytest.fixture
def products(server, provider):
    """The shop and its pipeline, drained."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP EXTENSION IF EXISTS evergreen CASCADE")
        admin.execute("DROP SCHEMA IF EXISTS embed_store CASCADE; CREATE EXTENSION evergreen CASCADE")
    db = psycopg.connect(server.dsn(), autocommit=True)
    provider.register(db)
    db.execute(SHOP)
    db.execute("INSERT INTO product SELECT i, 'thing ' || i, 2, 1 FROM generate_series(1001, %s) i", [1000 + MANY])
    db.execute("ANALYZE product, brand")
    db.execute(CREATE, [json.dumps(DEPENDS)])
    drain(db)
    provider.reset()
    yield db
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        for (name,) in admin.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
            admin.execute(f"ROLLBACK PREPARED '{name}'")


def prepare(db, name, *statements):
    db.execute("BEGIN")
    for statement in statements:
        db.execute(statement)
    db.execute(f"PREPARE TRANSACTION '{name}'")


def assert_fresh(db):
    drain(db)
    assert stored(db) == wanted(db)
    assert verify(db, "products")["fresh"] == len(wanted(db))
    assert db.execute("SELECT count(*) FROM embed.link_cursor").fetchone() == (0,)


@pytest.mark.few(1)
@pytest.mark.parametrize("crash", [False, True], ids=["running on", "after a crash"])
def test_prepared_changes_wait_and_are_not_lost(server, products, provider, crash):
    """Of a parent, of the table that links, and of the table of the key; workers go on around them."""
    db = products
    changes = ("UPDATE tag SET name = 'newest' WHERE id = 3", "INSERT INTO product_tag VALUES (4, 1)")
    prepare(db, "kept", *changes, "UPDATE product SET name = 'stool' WHERE id = 1")
    prepare(db, "undone", "UPDATE country SET name = 'Bavaria' WHERE code = 'de'", "DELETE FROM product WHERE id = 2")
    for number in range(3):
        if crash and number == 1:
            server.restart("immediate")
            db = psycopg.connect(server.dsn(), autocommit=True)
        db.execute("UPDATE brand SET name = %s WHERE id = 3", (f"Coco {number}",))
        db.execute("UPDATE product SET name = %s, brand_id = 3 WHERE id = 3", (f"lamp {number}",))
        db.execute(WORK)
        assert stored(db) == wanted(db)
    before = sum(provider.sent.values())
    db.execute("COMMIT PREPARED 'kept'")
    db.execute("ROLLBACK PREPARED 'undone'")
    assert_fresh(db)
    assert sum(provider.sent.values()) - before == 3  # products 1, 3 and 4
    assert set(provider.sent.values()) == {1}
    assert not any("Bavaria" in text for text in provider.sent)
    oldest = "SELECT count(*) FROM embed.change_log"
    assert db.execute(oldest).fetchone() == (0,)


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_prepared_drain_holds_its_values_and_nothing_else(products, provider, server, end):
    db = products
    db.execute("UPDATE brand SET name = 'first' WHERE id = 1")
    prepare(db, "drain", "SELECT embed_drain()")
    db.execute("UPDATE brand SET name = 'second' WHERE id = 1")
    db.execute("UPDATE tag SET name = 'newest' WHERE id = 3")
    db.execute("UPDATE product SET name = 'torch' WHERE id = 3")
    drain(db)
    assert stored(db)[3] == wanted(db)[3]
    db.execute(f"{end} PREPARED 'drain'")
    assert_fresh(db)


@pytest.mark.stress
def test_a_worker_that_is_killed_while_it_queues_rows(server, products, provider):
    """With its server: what it had not committed is done again, and no text is sent twice."""
    db = products
    for number, (change, where, when) in enumerate(KILLED_AT):
        db.execute(change.format(f"name {number}"))
        stop = Stoppable(psycopg.connect(server.dsn(), autocommit=True), db)
        with pytest.raises(psycopg.OperationalError):
            stop.start(WORK, where, when, how="kill").result()
        assert stop.stopped_at
        db = after_crash(server, db)
        assert_fresh(db)
    assert set(provider.sent.values()) == {1}
