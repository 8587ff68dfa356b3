"""Every kind of write is found in the WAL: what changed is embedded once, what did not is not."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.pipelines.freshness import all_fresh, texts_in_view, verify
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.wal import capture_of, published, triggers, work, work_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

PARTS = """
CREATE TABLE parts (tenant text, id int, body text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b (gone int, body text, id int NOT NULL, tenant text NOT NULL);
ALTER TABLE parts_b DROP gone;
ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES IN ('b')
"""


@pytest.fixture
def parts(db, model, provider):
    """A partitioned source, one leaf of which has its columns in another order."""
    for statement in PARTS.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO parts SELECT t, i, t || i FROM unnest('{a,b}'::text[]) t, generate_series(1, 3) i")
    db.execute("SELECT embed_create('parts', 'parts', columns => '{body}', model => 'loop', capture => 'cdc')")
    work(db)
    provider.reset()
    return "parts"


def test_a_new_pipeline_has_no_triggers_and_is_read_from_then_on(db, pipeline):
    assert capture_of(db) == "cdc"
    assert triggers(db) == 0
    assert published(db) == ["docs"]
    assert_as_source(db)
    assert left(db) == {}


def test_every_kind_of_write(db, pipeline, provider):
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    db.execute("UPDATE docs SET n = n + 1")
    db.execute("UPDATE docs SET body = body")
    db.execute("DELETE FROM docs WHERE id = 2")
    db.execute("INSERT INTO docs VALUES (11, 'title', 'new')")
    db.execute("UPDATE docs SET id = 40 WHERE id = 4")
    db.execute("BEGIN; UPDATE docs SET body = 'never'; ROLLBACK")
    db.execute(
        "BEGIN; SAVEPOINT a; UPDATE docs SET body = 'undone' WHERE id = 5; ROLLBACK TO a;"
        " SAVEPOINT b; UPDATE docs SET body = 'in a subtransaction' WHERE id = 6; RELEASE b; COMMIT"
    )
    work(db)
    assert_as_source(db)
    assert provider.sent == {"title 1\n\nedited": 1, "title\n\nnew": 1, "title 6\n\nin a subtransaction": 1}
    assert left(db) == {}
    db.execute("TRUNCATE docs")
    work(db)
    assert_as_source(db)
    assert db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,)


def test_a_drain_reads_the_wal_too(connect, db, pipeline, provider):
    db.execute("UPDATE docs SET body = 'edited' WHERE id <= 3")
    drain_all(db)
    assert_as_source(db)
    work(db)
    assert provider.sent == {f"title {i}\n\nedited": 1 for i in (1, 2, 3)}


def test_a_drain_left_open_keeps_nobody_from_reading(connect, db, pipeline, provider):
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    lingering = connect(autocommit=False)
    lingering.execute("SELECT embed_drain()")
    db.execute("UPDATE docs SET body = 'edited since' WHERE id = 2")
    worker = Background(connect(), "CALL embed_work()")
    shown = "SELECT chunk FROM docs_embedding WHERE id = 2"
    wait_until(lambda: db.execute(shown).fetchone() == ("title 2\n\nedited since",), what="the worker")
    lingering.rollback()
    wait_until(lambda: left(db) == {}, what="an empty queue")
    assert_as_source(db)
    assert worker.running


def test_values_kept_out_of_line(db, pipeline, provider):
    """An update of another column does not log them."""
    db.execute("ALTER TABLE docs ALTER body SET STORAGE EXTERNAL")
    db.execute("UPDATE docs SET body = repeat('long ', 2000) WHERE id = 1")
    work(db)
    provider.reset()
    db.execute("UPDATE docs SET n = 5 WHERE id = 1")
    db.execute("UPDATE docs SET title = 'other' WHERE id = 1")
    work(db)
    assert_as_source(db)
    assert provider.sent == {"other\n\n" + "long " * 2000: 1}


def test_a_key_that_is_kept_out_of_line(db, model, provider):
    db.execute("CREATE TABLE notes (id text PRIMARY KEY, body text)")
    db.execute("ALTER TABLE notes ALTER id SET STORAGE EXTERNAL, ALTER body SET STORAGE MAIN")
    db.execute("INSERT INTO notes VALUES (repeat('k', 2400), repeat('b', 1200))")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{body}', model => 'loop', capture => 'cdc')")
    work(db)
    db.execute("UPDATE notes SET body = 'edited'")
    work(db)
    assert texts_in_view(db, "notes_embedding") == ["edited"]
    assert verify(db, "notes") == all_fresh(1)


def test_partitions(db, parts, provider):
    db.execute("UPDATE parts SET body = 'edited' WHERE id = 1")
    db.execute("UPDATE parts SET tenant = 'b', id = 9 WHERE tenant = 'a' AND id = 2")
    db.execute("DELETE FROM parts_b WHERE id = 3")
    work(db)
    assert verify(db, "parts") == all_fresh(5)
    assert provider.sent == {"edited": 1}
    db.execute("TRUNCATE parts_a")
    work(db)
    assert verify(db, "parts") == all_fresh(3)
    assert texts_in_view(db, "parts_embedding") == ["a2", "b2", "edited"]
    assert provider.sent == {"edited": 1}
    db.execute("TRUNCATE parts")
    work(db)
    assert verify(db, "parts") == all_fresh(0)


def test_partitions_that_come_and_go(db, parts, provider):
    db.execute("CREATE TABLE parts_c PARTITION OF parts FOR VALUES IN ('c')")
    db.execute("INSERT INTO parts VALUES ('c', 1, 'c1')")
    work(db)
    assert verify(db, "parts") == all_fresh(7)
    db.execute("CREATE TABLE parts_d (tenant text NOT NULL, id int NOT NULL, body text)")
    db.execute("INSERT INTO parts_d VALUES ('d', 1, 'd1')")
    db.execute("ALTER TABLE parts ATTACH PARTITION parts_d FOR VALUES IN ('d')")
    db.execute("UPDATE parts SET body = 'c1 edited' WHERE tenant = 'c'")
    work(db)
    assert verify(db, "parts") == all_fresh(8)
    db.execute("ALTER TABLE parts DETACH PARTITION parts_a")
    db.execute("UPDATE parts_a SET body = 'unwatched'")
    db.execute("DROP TABLE parts_b")
    db.execute("UPDATE parts SET body = 'd1 edited' WHERE tenant = 'd'")
    work(db)
    assert verify(db, "parts") == all_fresh(2)
    assert texts_in_view(db, "parts_embedding") == ["c1 edited", "d1 edited"]
    assert provider.sent == {"c1": 1, "d1": 1, "c1 edited": 1, "d1 edited": 1}


def test_names_change(db, pipeline, provider):
    """What is in the WAL from before has the names of before."""
    db.execute("CREATE SCHEMA app")
    db.execute("UPDATE docs SET body = 'before' WHERE id = 1")
    db.execute("DELETE FROM docs WHERE id = 2")
    db.execute("ALTER TABLE docs RENAME id TO nr")
    db.execute("ALTER TABLE docs RENAME body TO content")
    db.execute("UPDATE docs SET content = 'between' WHERE nr = 3")
    db.execute("ALTER TABLE docs RENAME TO papers")
    db.execute("ALTER TABLE papers SET SCHEMA app")
    db.execute("UPDATE app.papers SET content = 'after' WHERE nr = 4")
    work(db)
    assert verify(db, "docs") == all_fresh(9)
    assert provider.sent == {"title 1\n\nbefore": 1, "title 3\n\nbetween": 1, "title 4\n\nafter": 1}
    db.execute("UPDATE app.papers SET content = 'and now' WHERE nr = 5")
    db.execute("DELETE FROM app.papers WHERE nr = 6")
    work(db)
    assert verify(db, "docs") == all_fresh(8)


def test_columns_come_and_go(db, pipeline, provider):
    db.execute("UPDATE docs SET body = 'before' WHERE id = 1")
    db.execute("ALTER TABLE docs DROP n")
    db.execute("ALTER TABLE docs ADD extra int DEFAULT 7")
    db.execute("UPDATE docs SET extra = 8, body = 'after' WHERE id = 2")
    work(db)
    assert_as_source(db)
    assert provider.sent == {"title 1\n\nbefore": 1, "title 2\n\nafter": 1}
    db.execute("ALTER TABLE docs ALTER body TYPE text USING body || '!'")
    work(db)
    assert_as_source(db)


def test_two_pipelines_on_one_table_and_one_beside(db, pipeline, provider):
    db.execute("SELECT embed_create('titles', 'docs', columns => '{title}', model => 'loop', capture => 'cdc')")
    db.execute("CREATE TABLE other AS SELECT 1 AS id, 'other' AS body; ALTER TABLE other ADD PRIMARY KEY (id)")
    db.execute("SELECT embed_create('other', 'other', columns => '{body}', model => 'loop')")
    work(db)
    provider.reset()
    db.execute("UPDATE docs SET title = 'new title', body = 'new body' WHERE id = 1; UPDATE other SET body = 'edited'")
    work(db)
    assert provider.sent == {"new title\n\nnew body": 1, "new title": 1, "edited": 1}
    db.execute("SELECT embed_drop('titles')")
    assert published(db) == ["docs"]
    db.execute("UPDATE docs SET body = 'again' WHERE id = 1")
    work(db)
    assert_as_source(db)


def test_a_paused_pipeline_and_a_broken_one_are_read_on(db, pipeline, provider):
    confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots"
    db.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET body = 'paused' WHERE id = 1")
    work(db)
    assert provider.sent == {}
    assert db.execute("SELECT count(*) FROM embed.change_log WHERE key = '[1]'").fetchone() == (1,)
    before = db.execute(confirmed).fetchone()
    db.execute("SELECT embed_resume('docs')")
    db.execute("ALTER TABLE docs RENAME body TO text; ALTER TABLE docs ADD body text; ALTER TABLE docs DROP text")
    assert db.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
    db.execute("UPDATE docs SET body = 'broken'")

    def has_moved_on():
        work(db)
        return db.execute(f"SELECT ({confirmed}) > %s", before).fetchone() == (True,)

    wait_until(has_moved_on, what="the slot")


def test_a_prepared_transaction(db, pipeline, provider):
    db.execute("BEGIN; UPDATE docs SET body = 'prepared' WHERE id = 1; PREPARE TRANSACTION 'cdc'")
    work(db)
    assert provider.sent == {}
    db.execute("COMMIT PREPARED 'cdc'")
    work(db)
    assert_as_source(db)
    assert provider.sent == {"title 1\n\nprepared": 1}


def test_a_client_in_another_encoding(connect, db, pipeline, provider):
    """What pgoutput writes is in the client's encoding, where these letters do not exist."""
    abroad = connect(client_encoding="LATIN1")
    db.execute("UPDATE docs SET body = '漢字 €' WHERE id = 1")
    work(abroad)
    assert_as_source(db)
    db.execute("UPDATE docs SET body = 'Ω' WHERE id = 2")
    drain_all(abroad)
    assert_as_source(db)
    assert abroad.execute("SHOW client_encoding").fetchone() == ("LATIN1",)


def test_without_a_backfill_only_what_changes_is_embedded(db, docs, model, provider):
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'cdc',"
        " backfill => false)"
    )
    db.execute("UPDATE docs SET body = 'before there is a slot' WHERE id = 1")
    work_until(db, "docs", "cdc")
    db.execute("UPDATE docs SET body = 'after' WHERE id = 2")
    work(db)
    assert triggers(db) == 0
    assert provider.sent == {"title 1\n\nbefore there is a slot": 1, "title 2\n\nafter": 1}


def test_many_changes_at_once_wait_behind_live_ones(db, pipeline):
    """As with triggers: a transaction of over a thousand rows is for the backfill lane, many small ones are not."""
    db.execute("SELECT embed_pause('docs')")
    db.execute("INSERT INTO docs SELECT i, 'title', 'bulk ' || i FROM generate_series(1001, 2500) i")
    for number in range(60):
        db.execute("UPDATE docs SET body = %s WHERE id = %s", (f"live {number}", number % 10 + 1))
    with psycopg.connect(db.info.dsn, autocommit=True) as session:
        work(session)
    bulk = db.execute("SELECT bulk, count(DISTINCT key) FROM embed.change_log GROUP BY 1 ORDER BY 1").fetchall()
    assert bulk == [(False, 10), (True, 1500)]
    db.execute("SELECT embed_resume('docs')")
    work(db)
    assert_as_source(db)


def test_waiting_for_what_was_written(connect, db, pipeline, provider):
    """embed_wait waits for what stands in the WAL only; on a server where nothing else happens, too."""
    db.execute("UPDATE docs SET body = 'not read yet' WHERE id = 1")
    assert db.execute("SELECT embed_wait('docs', '1', '200 ms')").fetchone() == (False,)
    worker = Background(connect(), "CALL embed_work()")
    for number in range(3):
        db.execute("UPDATE docs SET body = %s WHERE id = 1", (f"edit {number}",))
        assert db.execute("SELECT embed_wait('docs', '1', '20 s')").fetchone() == (True,)
        assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == (f"title 1\n\nedit {number}",)
    assert db.execute("SELECT embed_wait('docs', timeout => '20 s')").fetchone() == (True,)
    assert worker.running
