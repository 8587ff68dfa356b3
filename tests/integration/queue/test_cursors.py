"""Cursors that are restarted while a drain walks along them go all the way again."""

import threading

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, source_texts
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database


@pytest.fixture
def slow_drain(connect, provider):
    """Starts a drain whose texts with the word 'slow' wait at the model; returns it and the function to go on."""

    def start():
        gate = threading.Event()
        provider.answer = lambda texts: gate.wait(30) and None if any("slow" in text for text in texts) else None
        provider.reset()
        drain = Background(connect(), "SELECT embed_drain()")
        provider.wait_for_requests()
        return drain, gate.set

    return start


def test_a_partition_attached_during_the_backfill(db, model, slow_drain):
    """The drain has read the source to its end before the partition was there; another one has seen that it came."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)")
    db.execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (1) TO (11)")
    db.execute("CREATE TABLE docs_2 (LIKE docs INCLUDING ALL)")
    db.execute("INSERT INTO docs SELECT i, 'slow', 'body ' || i FROM generate_series(1, 10) i")
    db.execute("INSERT INTO docs_2 SELECT i, 'title', 'body ' || i FROM generate_series(11, 20) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain, go_on = slow_drain()
    db.execute("ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES FROM (11) TO (21)")
    db.execute("SELECT embed_drain(max_rows => 1)")
    go_on()
    drain.result()
    drain_all(db)
    assert_as_source(db)


def test_a_cursor_restarted_and_walked_back_to_where_it_stood(db, model, slow_drain):
    """The place is the same as when the drain began to walk, and yet it is another round."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)")
    db.execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (1) TO (11)")
    db.execute("CREATE TABLE docs_2 (LIKE docs INCLUDING ALL)")
    db.execute("INSERT INTO docs SELECT i, 'slow', 'body ' || i FROM generate_series(1, 10) i")
    db.execute("INSERT INTO docs_2 SELECT i, 'title', 'body ' || i FROM generate_series(11, 20) i")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain(max_rows => 3)")  # the cursor stands at the third row
    drain, go_on = slow_drain()
    db.execute("ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES FROM (11) TO (21)")
    db.execute("SELECT embed_drain(max_rows => 3)")  # and again, but now it has more to come
    go_on()
    drain.result()
    drain_all(db)
    assert_as_source(db)


def test_a_truncate_during_the_check_after_a_truncate(db, docs, model, slow_drain):
    """The drain has found every document in its place before the second TRUNCATE; another one has seen that one."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    db.execute("CREATE TABLE copy AS SELECT * FROM docs")
    db.execute("TRUNCATE docs")
    db.execute("INSERT INTO docs SELECT * FROM copy")
    db.execute("SELECT embed_drain(max_rows => 1)")
    db.execute("UPDATE docs SET title = 'slow' WHERE id = 10")
    drain, go_on = slow_drain()
    db.execute("TRUNCATE docs")
    db.execute("SELECT embed_drain(max_rows => 1)")
    go_on()
    drain.result()
    drain_all(db)
    assert_as_source(db)


@pytest.mark.fresh_database
@pytest.mark.parametrize("call", ["SELECT embed_drain()", "SELECT count(*) FROM embed_claim('docs', 100)"])
def test_a_claim_that_is_undone_moves_no_cursor(connect, db, docs, model, provider, call):
    """The table of the vectors is locked, which shows after the keys were claimed from the cursor."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    locker = connect()
    locker.execute("BEGIN; LOCK TABLE embed_store.g1 IN ACCESS EXCLUSIVE MODE")
    warnings = []
    db.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
    assert db.execute(call).fetchone() == (0,)
    assert any("was skipped" in text or "is locked" in text for text in warnings)
    locker.execute("ROLLBACK")
    drain_all(db)
    assert_as_source(db)
    assert provider.sent == dict.fromkeys(source_texts(db).values(), 1)
