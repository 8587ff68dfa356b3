"""embed_wait: true once a change is searchable; false, or an error, where waiting cannot help."""

import pytest
from psycopg import errors

from tests.fixtures.external_compute import claim, embed_all, release, submit
from tests.fixtures.pipelines.documents import drain_all, drain_once, shown
from tests.fixtures.roles import people
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, begin_to_wait, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def pipeline(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    return "docs"


def waited(db, key=None, timeout="0 s"):
    """What embed_wait says; one look unless there is time."""
    return db.execute("SELECT embed_wait('docs', %s::jsonb, %s)", (key, timeout)).fetchone()[0]


@pytest.mark.parametrize("key", ["[1]", "1", None])
def test_it_returns_when_the_change_is_searchable(connect, db, pipeline, provider, key):
    """Through the log, the job and the claim, up to the moment it is shown."""
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    session = connect()
    wait = begin_to_wait(db, session, key)
    provider.hold()
    work = Background(connect(), "CALL embed_work('docs', until_empty => true)")
    provider.wait_for_requests(1)
    assert not waited(db, key)
    assert wait.running
    assert shown(db)[1][0] == "title 1\n\nbody 1"
    provider.release()
    assert wait.result() == [(True,)]
    assert shown(db)[1][0] == "title 1\n\nnew"
    work.result()


def test_each_place_where_a_change_may_be(connect, db, pipeline):
    """Not seen yet, queued, handed out, given back: false each time for this row, and true for another."""
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    assert (waited(db, "1"), waited(db, "2"), waited(db)) == (False, True, False)
    texts = claim(db)
    assert (waited(db, "1"), waited(db, "2"), waited(db)) == (False, True, False)
    release(db, texts)
    assert (waited(db, "1"), waited(db, "2"), waited(db)) == (False, True, False)
    submit(db, claim(db))
    assert (waited(db, "1"), waited(db)) == (True, True)


def test_rows_that_are_gone_or_have_no_text(db, docs, model):
    db.execute("ALTER TABLE docs ADD published bool DEFAULT true")
    db.execute(
        "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', only_if => 'published')"
    )
    drain_all(db)
    db.execute("UPDATE docs SET published = false WHERE id = 1")
    db.execute("DELETE FROM docs WHERE id = 2")
    db.execute("UPDATE docs SET id = 103 WHERE id = 3")
    assert [waited(db, key) for key in "123"] == [False, False, False]
    drain_all(db)
    assert [waited(db, key) for key in ("1", "2", "3", "103", "[4]", "999")] == [True] * 6


def test_a_hot_row_is_waited_for_only_up_to_the_change_that_was_there(connect, db, pipeline, provider):
    """A worker has the row, it changes, the wait begins, and it goes on changing: the first text after that counts."""
    provider.hold()
    db.execute("UPDATE docs SET body = 'old' WHERE id = 1")
    work = Background(connect(), "CALL embed_work(max_runtime => '60 s')")
    provider.wait_for_requests(1)
    requests = len(provider.requests)
    db.execute("UPDATE docs SET body = 'mine' WHERE id = 1")
    session = connect()
    wait = begin_to_wait(db, session, "1")
    other = connect()

    def change_again(_):
        other.execute("UPDATE docs SET body = body || '!' WHERE id = 1")
        other.execute("SELECT embed_drain()")  # queues it: the row is at the model

    provider.answer = change_again
    provider.release()
    assert wait.result() == [(True,)]
    assert shown(db)[1][0].startswith("title 1\n\nmine")
    assert len(provider.requests) > requests
    assert work.running
    provider.answer = None


def test_before_the_backfill_has_come_to_a_row(db, docs, model):
    """Rows that were there before the pipeline: not searchable, whatever the queue says; a row that is not there is."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    assert (waited(db, "1"), waited(db), waited(db, "99")) == (False, False, True)
    db.execute("SELECT embed_drain(max_rows => 3)")
    assert (waited(db, "1"), waited(db, "9"), waited(db)) == (True, False, False)
    texts = claim(db)
    assert (waited(db, "9"), waited(db)) == (False, False)
    submit(db, texts)
    assert (waited(db, "9"), waited(db)) == (True, True)


def test_a_backfill_that_has_handed_out_its_last_rows(connect, db, docs, model):
    """The cursor is at its end and the rows are not embedded: who began to wait before is not told that they are."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    one, other = connect(), connect()
    waits = [begin_to_wait(db, one, "9"), begin_to_wait(db, other, None)]
    texts = claim(db)
    claim(db)  # the cursor notices its end
    assert not db.execute("SELECT bool_or(running) FROM embed.backfill_cursor").fetchone()[0]
    assert not waited(db, "9", "0.5 s")
    assert all(wait.running for wait in waits)
    submit(db, texts)
    assert [wait.result() for wait in waits] == [[(True,)], [(True,)]]


def test_a_table_that_was_emptied(db, pipeline):
    db.execute("TRUNCATE docs")
    assert (waited(db, "1"), waited(db)) == (False, False)
    drain_all(db)
    assert (waited(db, "1"), waited(db)) == (True, True)


def test_in_vain(db, pipeline, provider):
    """A dead letter and a paused pipeline: at once, an hour is given; what is searchable is searchable nevertheless."""
    db.execute("SET statement_timeout = '15 s'")
    db.execute("SELECT embed_alter('docs', '{\"max_attempts\": 1}')")
    db.execute("UPDATE docs SET body = 'bad' WHERE id = 1")
    release(db, claim(db), "no")
    assert [waited(db, key, "1 hour") for key in ("1", "2", None)] == [False, True, False]
    db.execute("UPDATE docs SET body = 'good' WHERE id = 1")
    assert not waited(db, "1")
    embed_all(db)
    assert waited(db, "1", "1 hour")
    db.execute("SELECT embed_pause('docs')")
    assert waited(db, "1", "1 hour")
    db.execute("UPDATE docs SET body = 'later' WHERE id = 1")
    assert [waited(db, key, "1 hour") for key in ("1", "2", None)] == [False, True, False]
    db.execute("SELECT embed_resume('docs')")
    embed_all(db)
    db.execute("ALTER TABLE docs DROP COLUMN body")
    db.execute("UPDATE docs SET title = 'other' WHERE id = 1")
    assert waited(db, "1", "1 hour") is False
    assert left(db).keys() <= {"change_log"}


def test_the_transaction_that_made_the_change_cannot_wait_for_it(connect, db, pipeline):
    session = connect(autocommit=False)
    session.execute("UPDATE docs SET n = n + 1 WHERE id = 1")
    assert waited(session, "1") is True  # nothing to do for it
    session.execute("SAVEPOINT s")
    session.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    for key in ("1", None):
        session.execute("SAVEPOINT t")
        with pytest.raises(errors.ActiveSqlTransaction) as caught:
            waited(session, key)
        assert "COMMIT" in caught.value.diag.message_hint
        session.execute("ROLLBACK TO t")
    assert waited(session, "2") is True
    session.execute("SELECT embed_touch('docs', '[2]')")
    with pytest.raises(errors.ActiveSqlTransaction):
        waited(session, "2")
    session.execute("ROLLBACK TO s")
    assert waited(session, "1") is True  # it is undone
    session.execute("TRUNCATE docs")
    with pytest.raises(errors.ActiveSqlTransaction):
        waited(session, "5")
    session.rollback()
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    session.execute("SELECT 1")
    assert waited(session, "1") is False  # committed by another


def test_a_drain_of_the_same_transaction_that_left_something(connect, db, pipeline, provider):
    provider.answer = lambda _: (503, b"down")
    session = connect(autocommit=False)
    session.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    drain_once(session)
    with pytest.raises(errors.ActiveSqlTransaction):
        waited(session, "1")


def test_it_heeds_the_time_a_cancel_and_the_end_of_its_pipeline(connect, db, pipeline):
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    assert waited(db, "1", "0.2 s") is False
    session = connect()
    session.execute("SET statement_timeout = '100 ms'")
    with pytest.raises(errors.QueryCanceled):
        waited(session, "1", "1 hour")
    session.execute("RESET statement_timeout")
    wait = begin_to_wait(db, session, "1")
    session.cancel()
    with pytest.raises(errors.QueryCanceled):
        wait.result()
    wait = begin_to_wait(db, session, "1")
    db.execute("SELECT embed_drop('docs')")
    with pytest.raises(errors.UndefinedObject):
        wait.result()


def test_it_holds_no_lock_that_a_writer_or_ddl_could_meet(connect, db, pipeline):
    """In a transaction that stays open, too; and the locks of others tell it nothing."""
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    session = connect(autocommit=False)
    wait = begin_to_wait(db, session, "1")
    held = """SELECT count(*) FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation
              WHERE l.pid = %s AND l.locktype <> 'virtualxid'
                AND (c.oid IS NULL OR c.relnamespace <> 'pg_catalog'::regnamespace)"""
    wait_until(lambda: db.execute(held, (session.info.backend_pid,)).fetchone() == (0,), what="no lock")
    other = connect(options="-c lock_timeout=5000")
    other.execute("ALTER TABLE docs ADD more text")
    other.execute("TRUNCATE docs")
    drain_all(db)
    assert wait.result() == [(True,)]
    assert db.execute(held, (session.info.backend_pid,)).fetchone() == (0,)


def test_whoever_may_read_the_table_may_wait(connect, db, pipeline):
    people(db)
    with pytest.raises(errors.UndefinedObject):
        waited(connect("bob"))
    db.execute("GRANT SELECT ON docs TO bob")
    assert waited(connect("bob")) is True
