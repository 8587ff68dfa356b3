"""embed_status at every stage of a row's way."""

import pytest

from tests.fixtures.pipelines.documents import drain_once
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

COLUMNS = "state, rows, fresh, pending, in_flight, failed, oldest_pending_age IS NOT NULL, last_error"


def status(db):
    return db.execute(f"SELECT {COLUMNS} FROM embed_status").fetchone()


def test_from_created_to_fresh_and_stale(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    assert status(db)[:6] == ("active", 10, 0, 10, 0, 0)
    db.execute("SELECT embed_drain(max_rows => 4)")
    assert status(db)[:6] == ("active", 10, 4, 6, 0, 0)
    db.execute("SELECT embed_drain()")
    assert status(db) == ("active", 10, 10, 0, 0, 0, False, None)
    db.execute("UPDATE docs SET body = 'new' WHERE id <= 3")
    db.execute("UPDATE docs SET body = 'newer' WHERE id = 1")
    assert status(db)[3:] == (3, 0, 0, True, None)
    db.execute("SELECT embed_drain()")
    db.execute("DELETE FROM docs WHERE id = 1")
    db.execute("SELECT embed_drain()")
    assert status(db) == ("active", 9, 9, 0, 0, 0, False, None)
    db.execute("TRUNCATE docs")
    db.execute("SELECT embed_drain()")
    db.execute("SELECT embed_drain()")
    assert status(db) == ("active", 0, 0, 0, 0, 0, False, None)


def test_rows_without_text_are_fresh(db, docs):
    hash_model(db)
    db.execute("UPDATE docs SET body = NULL WHERE id <= 2")
    db.execute("UPDATE docs SET body = E' \\n' WHERE id = 3")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    assert status(db) == ("active", 10, 10, 0, 0, 0, False, None)


def test_the_age_of_the_oldest_waiting_change_grows(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    age = "SELECT oldest_pending_age FROM embed_status"
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    first = db.execute(age).fetchone()[0]
    db.execute("UPDATE docs SET body = 'new' WHERE id = 2")
    assert db.execute(age).fetchone()[0] > first
    db.execute("UPDATE embed.change_log SET changed_at = changed_at - interval '1 hour' WHERE key = '[2]'")
    assert db.execute("SELECT oldest_pending_age > '59 min' FROM embed_status").fetchone() == (True,)


@pytest.mark.slow
def test_rows_at_the_model_are_in_flight(db, connect, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    assert status(db)[2:6] == (0, 0, 10, 0)
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    assert status(db)[2:6] == (0, 0, 10, 0)  # the same row, once
    provider.release()
    work.result()
    assert status(db) == ("active", 10, 10, 0, 0, 0, False, None)


@pytest.mark.slow
def test_a_worker_that_dies_gives_its_rows_back(db, connect, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    db.execute("SELECT pg_terminate_backend(%s)", [work.pid])
    provider.release()
    wait_until(lambda: not work.running)
    db.execute("SELECT embed_drain()")
    assert status(db) == ("active", 10, 10, 0, 0, 0, False, None)


def test_a_poisoned_row_fails_alone_and_is_forgiven_when_it_changes(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    provider.answer = lambda texts: (400, b"no poison, please") if "poison" in texts else None
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 5")
    db.execute("SELECT embed_drain()")
    assert status(db)[:6] == ("active", 10, 9, 0, 0, 1)
    assert "no poison, please" in status(db)[7]
    db.execute("UPDATE docs SET body = 'wholesome' WHERE id = 5")
    db.execute("SELECT embed_drain()")
    assert status(db) == ("active", 10, 10, 0, 0, 0, False, None)


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("code", [401, 503])
def test_when_no_row_is_to_blame_all_wait_and_the_reason_shows(db, docs, model, provider, code):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    provider.answer = lambda _: (code, b"come back later")
    db.execute("SELECT embed_drain()")
    assert status(db)[:6] == ("active", 10, 0, 10, 0, 0)
    assert str(code) in status(db)[7]
    provider.answer = None
    wait_until(lambda: drain_once(db) is not None and status(db)[2] == 10, what="all rows, by themselves")
    assert status(db) == ("active", 10, 10, 0, 0, 0, False, None)


def test_a_broken_pipeline_says_why(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("ALTER TABLE docs DROP COLUMN body")
    state, *_, reason = status(db)
    assert state == "broken"
    assert '"body"' in reason
    assert db.execute("SELECT state, broken_reason FROM embed_pipelines").fetchone() == ("broken", reason)
