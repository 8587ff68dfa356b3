"""Clients with habits: thousands of savepoints, transactions that idle for ever, SERIALIZABLE for everything."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, shown, status_of
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database

WORK = "CALL embed_work(until_empty => true)"
STORM = """
DO $$ BEGIN
    FOR i IN 1..3000 LOOP
        BEGIN
            UPDATE docs SET body = 'storm ' || i, n = n + 1 WHERE id = 1 + i % 10;
            INSERT INTO docs VALUES (1000 + i, 'in', 'storm') ON CONFLICT (id) DO UPDATE SET body = 'twice';
            DELETE FROM docs WHERE id = 1000 + i AND i % 5 <> 0;
            IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$
"""


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    return "docs"


def test_a_storm_of_savepoints_beside_workers(connect, db, pipeline, provider):
    """More subtransactions than a snapshot holds (64) or a backend remembers; some are undone, some nest."""
    provider.reset()
    writer = connect(autocommit=False, prepare_threshold=None)
    writer.execute("SELECT pg_current_xact_id()")
    writer.execute(STORM)
    for number in range(100):
        writer.execute(f"SAVEPOINT s_{number}")
        writer.execute("UPDATE docs SET body = %s WHERE id = 1", (f"nested {number}",))
    db.execute("UPDATE docs SET title = 'other', body = 'beside' WHERE id = 20")
    db.execute("INSERT INTO docs VALUES (20, 'by', 'another')")
    db.execute(WORK)
    drain_all(db)
    assert shown(db)[20][0] == "by\n\nanother"
    assert set(provider.sent) == {"by\n\nanother"}
    writer.execute("ROLLBACK TO s_70")
    writer.execute("RELEASE s_50")
    db.execute(WORK)
    writer.execute("UPDATE docs SET body = 'last' WHERE id = 2")
    writer.commit()
    db.execute(WORK)
    drain_all(db)
    assert_as_source(db)
    assert (shown(db)[1][0], shown(db)[2][0]) == ("title 1\n\nnested 69", "title 2\n\nlast")
    assert not any("nested" in text and text != "title 1\n\nnested 69" for text in provider.sent)
    assert set(provider.sent.values()) == {1}


def test_transactions_that_idle_hold_up_nobody(connect, db, pipeline, provider):
    """A snapshot, an old transaction id, a lock on the source and an open cursor over the view: for the whole test."""
    reader = connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.execute("SELECT id, chunk, is_stale FROM docs_embedding ORDER BY id").fetchall()
    old = connect()
    old.execute("BEGIN")
    old.execute("UPDATE docs SET n = 1 WHERE id = 10")
    walker = connect()
    walker.execute("BEGIN")
    walker.execute("DECLARE c CURSOR FOR SELECT id, is_stale FROM docs_embedding")
    walker.execute("FETCH 1 FROM c")
    worker = connect()
    for number in range(15):
        db.execute("UPDATE docs SET body = %s WHERE id < 10", (f"round {number}",))
        db.execute("DELETE FROM docs WHERE id = 9")
        db.execute("INSERT INTO docs VALUES (9, 'again', %s)", (f"round {number}",))
        worker.execute(WORK) if number % 2 else drain_all(db)
        assert_as_source(db)
        assert status_of(db, "pending") == 0
    assert provider.sent["title 1\n\nround 14"] == 1
    assert reader.execute("SELECT id, chunk, is_stale FROM docs_embedding ORDER BY id").fetchall() == before
    held = db.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL OR backend_xid IS NOT NULL")
    assert held.fetchone()[0] >= 3
    for session in (reader, old, walker):
        session.execute("COMMIT")
    assert_as_source(db)


@pytest.fixture
def serializable(db, connect):
    """Opens sessions for which SERIALIZABLE is the default, as the database has it."""
    name = db.execute("SELECT current_database()").fetchone()[0]
    db.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    return connect


def test_every_call_where_serializable_is_the_default(serializable, db, docs, model):
    session = serializable()
    for statement in (
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')",
        "SELECT * FROM embed_preview('docs', '{title,body}', model => 'loop')",
        "SELECT * FROM embed_estimate('docs')",
        WORK,
        "UPDATE docs SET body = 'edited' WHERE id = 1",
        "SELECT embed_touch('docs', '[2]')",
        "ALTER TABLE docs RENAME n TO m",
        "ALTER TABLE docs ALTER body TYPE varchar",
        "SELECT embed_pause('docs')",
        "SELECT embed_resume('docs')",
        "SELECT * FROM embed_verify('docs', repair => true)",
        WORK,
        "SELECT * FROM embed_search('docs', 'edited')",
        "SELECT * FROM embed_search_rows(NULL::docs, 'edited')",
        "SELECT embed_explain('docs', '[1]')",
        "SELECT embed_retry('docs')",
        "SELECT * FROM embed_status",
    ):
        session.execute(statement)
    assert_as_source(db)
    for call in ("SELECT embed_drain()", "SELECT embed_forget('docs', '[1]')"):
        with pytest.raises(psycopg.errors.ActiveSqlTransaction) as refused:
            session.execute(call)
        assert "BEGIN ISOLATION LEVEL READ COMMITTED" in refused.value.diag.message_hint
        session.execute("BEGIN ISOLATION LEVEL READ COMMITTED")  # as it says
        session.execute(call)
        session.execute("COMMIT")
    session.execute("SELECT embed_drop('docs')")


def test_serializable_writers_meet_workers_at_the_model_and_never_fail(serializable, db, docs, model, provider):
    """Each reads rows that others write, so that they are pivots as soon as a worker joins in; alone they are not."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    one, two = serializable(), serializable()
    for number in range(3):
        one.execute("BEGIN")
        one.execute("SELECT body FROM docs WHERE id = 1").fetchall()
        one.execute("UPDATE docs SET body = %s WHERE id = 2", (f"by one {number}",))
        provider.hold()
        at = len(provider.requests)
        db.execute("UPDATE docs SET body = %s WHERE id = 3", (f"at the model {number}",))
        worker = serializable()
        work = Background(worker, WORK)
        provider.wait_for_requests(at + 1)
        two.execute("BEGIN")
        two.execute("UPDATE docs SET body = %s WHERE id = 1", (f"by two {number}",))
        two.execute("COMMIT")
        provider.release()
        work.result()
        one.execute("UPDATE docs SET title = 'more' WHERE id = 2")
        one.execute("COMMIT")
    serializable().execute(WORK)
    db.execute("SET default_transaction_isolation = 'read committed'")
    assert_as_source(db)
    assert_fresh(db, "docs", 10)
