"""embed_forget erases everything stored of a row, whatever worker holds it, and says what remains."""

import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import (
    assert_as_source,
    drain_all,
    drain_once,
    source_texts,
    status_of,
    verified,
)
from tests.fixtures.roles import hash_model, people
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

OLD = "title 3\n\nbody 3"


@pytest.fixture
def notices(db):
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    return heard


@pytest.fixture
def pipeline(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.reset()


def forget(db, key="[3]"):
    return db.execute("SELECT embed_forget('docs', %s)", [key]).fetchone()[0]


def everywhere(db, word):
    """Where this word stands in some row: in our tables, or in the statistics of them."""
    tables = db.execute(
        """SELECT c.oid::regclass::text FROM pg_class c
           WHERE c.relkind = 'r' AND c.relnamespace IN ('embed'::regnamespace, 'embed_store'::regnamespace)"""
    ).fetchall()
    values = "tablename, attname, most_common_vals, histogram_bounds, most_common_elems"
    statistics = f"(SELECT {values} FROM pg_stats WHERE schemaname ~ '^embed')"
    found = [
        place
        for place in [*(name for (name,) in tables), statistics]
        if db.execute(f"SELECT EXISTS (SELECT FROM {place} x WHERE strpos(x::text, %s) > 0)", [word]).fetchone()[0]
    ]
    return sorted(found)


def cached(db):
    return db.execute("SELECT count(*) FROM embed.cache").fetchone()[0]


@pytest.mark.parametrize("key", ["[3]", "3", '["3"]'])
def test_a_row_that_was_deleted_first(db, pipeline, provider, notices, key):
    db.execute("DELETE FROM docs WHERE id = 3")
    assert forget(db, key) == 1
    assert notices == ['1 text of row [3] erased from pipeline "docs"']
    assert everywhere(db, "body 3") == []
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)
    assert db.execute("SELECT fresh, pending FROM embed_status").fetchone() == (9, 0)
    assert drain_once(db) == 0
    assert cached(db) == 0
    assert_as_source(db)
    assert provider.requests == []


def test_a_row_that_is_deleted_after(db, pipeline, provider, notices):
    assert forget(db) == 1
    assert "still in public.docs and will be embedded again when it changes: delete it there" in notices[0]
    assert drain_all(db) == 0
    assert verified(db)["missing"] == 1
    db.execute("DELETE FROM docs WHERE id = 3")
    drain_all(db)
    assert_as_source(db)
    assert (cached(db), provider.requests) == (0, [])


def test_what_was_deleted_and_drained_before_is_in_the_cache_no_more_when_the_row_comes_back(db, pipeline, provider):
    """The cache knows no rows: its entry is found by the text, as long as the row has it."""
    db.execute("DELETE FROM docs WHERE id = 3")
    drain_all(db)
    assert cached(db) == 1
    db.execute("INSERT INTO docs VALUES (3, 'title 3', 'body 3')")
    assert forget(db) == 0
    assert cached(db) == 0
    drain_all(db)
    assert provider.sent == {OLD: 1}
    assert_as_source(db)


def test_texts_that_the_row_had_earlier(db, pipeline, provider):
    """Whether it was edited or deleted, and drained since: the cache knows whose text it was."""
    for body in ("second", "third"):
        db.execute("UPDATE docs SET body = %s WHERE id IN (3, 4)", [body])
        drain_all(db)
    db.execute("DELETE FROM docs WHERE id IN (3, 4)")
    drain_all(db)
    assert cached(db) == 6
    assert forget(db) == 0
    assert cached(db) == 3
    provider.reset()
    db.execute("INSERT INTO docs VALUES (3, 'title 3', 'second'), (4, 'title 4', 'second')")
    drain_all(db)
    assert provider.sent == {"title 3\n\nsecond": 1}


def test_a_change_that_was_not_looked_at_yet_is_not_lost(db, pipeline, notices):
    db.execute("UPDATE docs SET title = NULL, body = 'anonymous' WHERE id = 3")
    assert forget(db) == 1
    assert "embedded again by the next drain" in notices[0]
    assert everywhere(db, "body 3") == []
    drain_all(db)
    assert_as_source(db)
    assert cached(db) == 0


def test_a_waiting_job_loses_its_error_and_is_done_as_if_new(db, pipeline, provider):
    provider.answer = lambda _: (503, b"cannot embed body 3333")
    db.execute("UPDATE docs SET body = 'body 3333' WHERE id = 3")
    drain_once(db)
    assert "3333" in status_of(db, "last_error")
    forget(db)
    assert everywhere(db, "3333") == []
    assert db.execute("SELECT attempts, ready_at <= now() FROM embed.job").fetchone() == (0, True)


def test_a_dead_letter_goes_with_its_message(db, pipeline, provider):
    provider.answer = lambda texts: (400, b"cannot embed body 3333") if "3333" in texts[0] else None
    db.execute("UPDATE docs SET body = 'body 3333' WHERE id = 3")
    drain_all(db)
    assert db.execute("SELECT count(*) FROM embed_failures").fetchone() == (1,)
    assert cached(db) == 1  # the text that was fresh before went with the dead letter
    assert forget(db) == 0
    assert everywhere(db, "3333") == everywhere(db, "body 3") == []
    assert cached(db) == 0


@pytest.mark.parametrize("status", [400, 503])
def test_messages_are_in_no_statistics(db, pipeline, provider, status):
    provider.answer = lambda texts: (status, f"cannot embed {texts[0]}".encode()) if "bad" in texts[0] else None
    db.execute("UPDATE docs SET body = 'bad ' || id")
    drain_once(db)
    assert len(everywhere(db, "bad 3")) == 1
    db.execute("ANALYZE")
    db.execute("SELECT embed_forget('docs', to_jsonb(id)) FROM docs")
    assert everywhere(db, "bad") == []


@pytest.mark.fresh_database
def test_the_same_text_in_another_row_stays_there(db, pipeline, provider):
    db.execute("UPDATE docs SET title = 'title 3', body = 'body 3' WHERE id = 4")
    drain_all(db)
    db.execute("DELETE FROM docs WHERE id = 3")
    assert forget(db) == 1
    drain_all(db)
    assert_as_source(db)
    assert provider.requests == []
    assert everywhere(db, "body 3") == ["embed_store.g1"]


def test_other_pipelines_of_the_table_are_named(db, pipeline, notices):
    hash_model(db)
    db.execute("SELECT embed_create('titles', 'docs', columns => '{title}', model => 'hash8')")
    forget(db)
    assert notices[-1].endswith("other pipelines of the table keep theirs: titles")


def test_many_chunks_and_composite_keys(db):
    hash_model(db)
    db.execute("CREATE TABLE parts (tenant text, n int, body text, PRIMARY KEY (n, tenant))")
    db.execute("INSERT INTO parts SELECT 'acme', i, repeat('word' || i || '. ', 40) FROM generate_series(1, 3) i")
    chunker = "embed_chunk_text(size => 50)"
    db.execute(f"SELECT embed_create('parts', 'parts', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    drain_all(db)
    chunks = db.execute("SELECT count(*) FROM parts_embedding WHERE n = 2").fetchone()[0]
    db.execute("DELETE FROM parts WHERE n = 2")
    assert db.execute("SELECT embed_forget('parts', jsonb_build_array(2, 'acme'))").fetchone() == (chunks,)
    assert everywhere(db, "word2") == []
    assert verified(db, "parts")["fresh"] == 2


@pytest.mark.fresh_database
def test_statistics_hold_no_text_and_no_vector(db, pipeline):
    db.execute("ANALYZE embed_store.g1")
    assert everywhere(db, "body 3") == ["embed_store.g1"]
    columns = db.execute("SELECT attname FROM pg_stats WHERE tablename = 'g1'").fetchall()
    assert {"chunk", "embedding"}.isdisjoint({name for (name,) in columns})


@pytest.mark.parametrize("moment", ["deleted before", "deleted after"])
def test_a_worker_that_has_the_row_at_the_model_writes_it_nowhere(db, connect, pipeline, provider, moment):
    """The text on its way is neither stored nor in the table any more: only its flight is known."""
    db.execute("UPDATE docs SET body = 'new 3' WHERE id = 3")
    db.execute("UPDATE docs SET body = 'new 4' WHERE id = 4")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    if moment == "deleted before":
        db.execute("DELETE FROM docs WHERE id = 3")
    assert forget(db) == 1
    if moment == "deleted after":
        db.execute("DELETE FROM docs WHERE id = 3")
    provider.release()
    work.result()
    drain_all(db)
    assert_as_source(db)
    assert everywhere(db, "new 3") == everywhere(db, "body 3") == []
    kept = db.execute("SELECT count(*) FROM embed.cache").fetchone()[0]
    assert kept == (1 if provider.sent["title 4\n\nnew 4"] == 1 else 2)  # what row 4 had before
    provider.reset()
    db.execute("INSERT INTO docs VALUES (3, 'title 3', 'new 3'), (33, 'title 3', 'body 3')")
    drain_all(db)
    assert provider.sent == {"title 3\n\nnew 3": 1, OLD: 1}


def test_a_worker_that_has_a_row_that_stays_does_it_once_more(db, connect, pipeline, provider):
    db.execute("UPDATE docs SET body = 'new 3' WHERE id = 3")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    assert forget(db) == 1
    provider.release()
    work.result()
    drain_all(db)
    assert_as_source(db)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_late_vector_is_not_kept_while_the_forgetting_is_not_committed(db, connect, pipeline, provider, end):
    db.execute("UPDATE docs SET body = 'new 3' WHERE id = 3")
    provider.hold()
    work = Background(connect(), "CALL embed_work(max_runtime => '20 s')")
    provider.wait_for_requests()
    session = connect()
    session.execute("BEGIN")
    session.execute("DELETE FROM docs WHERE id = 3")
    assert forget(session) == 1
    provider.release()
    texts = "SELECT count(*) FROM embed.in_flight"
    wait_until(lambda: db.execute(texts).fetchone() == (0,), what="the worker's end of its batch")
    session.execute(end)
    wait_until(lambda: status_of(db, "pending + in_flight") == 0, what="an empty queue")
    drain_all(db)
    assert_as_source(db)
    if end == "COMMIT":
        assert cached(db) == 0
        assert everywhere(db, "new 3") == []
    work_session_is_over = connect().execute("SELECT pg_terminate_backend(%s)", [work.pid]).fetchone()
    assert work_session_is_over == (True,)


@pytest.mark.fresh_database
@pytest.mark.parametrize("role", ["origin", "replica", "local"])
def test_every_way_into_the_cache_is_refused_whatever_triggers_the_session_fires(db, pipeline, role):
    text, vector = db.execute("SELECT chunk_hash, embedding::text FROM embed_store.g1 LIMIT 1").fetchone()
    db.execute("INSERT INTO embed.erased_text (model, hash) SELECT id, %s FROM embed.model WHERE name = 'loop'", [text])
    db.execute(f"SET session_replication_role = {role}")
    insert = "INSERT INTO embed.cache (model, hash, embedding) SELECT id, %s, %s FROM embed.model WHERE name = 'loop'"
    assert db.execute(insert, [text, vector]).rowcount == 0
    assert cached(db) == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_open_drain_that_has_the_row_is_a_reason_to_refuse(db, connect, pipeline, end):
    db.execute("UPDATE docs SET body = 'new 3' WHERE id = 3")
    session = connect()
    session.execute("BEGIN")
    assert drain_once(session) == 1
    error = refused(db, "SELECT embed_forget('docs', '3')")
    assert error.sqlstate == "55P03"
    assert "[3]" in error.diag.message_primary
    assert forget(db, "4") == 1  # the others are not its business
    session.execute(end)
    db.execute("DELETE FROM docs WHERE id IN (3, 4)")
    assert forget(db) == 1
    drain_all(db)
    assert_as_source(db)
    assert everywhere(db, "new 3") == everywhere(db, "body 3") == []


def test_an_open_forgetting_keeps_nothing_from_others(db, connect, pipeline):
    session = connect()
    session.execute("BEGIN")
    assert forget(session) == 1
    db.execute("UPDATE docs SET body = 'edited ' || id WHERE id > 5")
    assert drain_once(db) == 5
    session.execute("ROLLBACK")
    assert_as_source(db)


def test_a_running_backfill_comes_by_only_where_the_row_still_is(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain(max_rows => 2)")
    db.execute("DELETE FROM docs WHERE id = 3")
    assert forget(db) == 0
    assert forget(db, "4") == 0
    drain_all(db)
    assert_as_source(db)
    assert OLD not in provider.sent
    assert provider.sent.total() == 9


def test_a_dropped_source_is_forgotten_all_the_same(db, pipeline):
    db.execute("DROP TABLE docs CASCADE")
    assert forget(db, "3") == 1
    assert everywhere(db, "body 3") == []


@pytest.mark.parametrize(
    ("call", "state"),
    [("'nope', '1'", "42704"), ("NULL, '1'", "42704"), ("'docs', NULL", "22023"), ("'docs', '[1, 2]'", "22023"),
     ("'docs', '\"x\"'", "22P02")],
)  # fmt: skip
def test_wrong_input(db, pipeline, call, state):
    assert refused(db, f"SELECT embed_forget({call})").sqlstate == state


def test_only_in_read_committed_and_only_by_who_administers(db, connect, pipeline):
    session = connect()
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert refused(session, "SELECT embed_forget('docs', '3')", count_as=db).sqlstate == "25001"
    people(db)
    bob = connect("bob")
    assert refused(bob, "SELECT embed_forget('docs', '3')", count_as=db).sqlstate == "42704"
    db.execute("GRANT SELECT ON docs TO bob")
    assert refused(bob, "SELECT embed_forget('docs', '3')", count_as=db).sqlstate == "42501"
    assert len(source_texts(db)) == 10
