"""An empty, bloated queue is truncated, but never while a session has something in it."""

import pytest

from tests.fixtures.breakpoints import Stoppable
from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.pipelines.history import MIND, MISS
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database

EMPTY = """
DO LANGUAGE plpython3u $$
from evergreen.queue import claims
claims.truncate_queue()
$$
"""
AT_ONCE = "DO LANGUAGE plpython3u 'from evergreen.worker import worker; worker._TRUNCATE_INTERVAL_S = 0.0'"
TWO = """
SELECT count(*) >= 2 OR EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'finishing')
FROM embed.job WHERE token IS NOT NULL
"""
FILE = "SELECT pg_relation_filenode('embed.job')"


@pytest.fixture
def spent(connect, db, docs):
    """An empty queue of a few megabytes; returns a session that may truncate it."""
    hash_model(db)
    db.execute("ALTER TABLE embed.job SET (autovacuum_enabled = off)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    drain_all(db)
    db.execute(
        "INSERT INTO embed.job (generation, key) SELECT 1, jsonb_build_array(i) FROM generate_series(1, 30000) i"
    )
    db.execute("DELETE FROM embed.job")
    session = connect(options="-c lock_timeout=1000")
    session.execute("SELECT embed_setting('lease')")  # loads the library
    return session


def file_of(db):
    return db.execute(FILE).fetchone()


def test_it_is_begun_anew(db, spent):
    before = file_of(db)
    spent.execute(EMPTY)
    assert file_of(db) != before
    assert db.execute("SELECT pg_relation_size('embed.job')").fetchone() == (0,)
    before = file_of(db)
    spent.execute(EMPTY)
    assert file_of(db) == before, "a small one stays"
    db.execute("UPDATE docs SET body = 'edited'")
    drain_all(db)
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (10,)


def test_a_worker_does_it(db, connect, spent):
    before = file_of(db)
    spent.execute(AT_ONCE)
    spent.execute("CALL embed_work(until_empty => true)")
    assert file_of(db) != before


QUEUES = {
    "a job": "INSERT INTO embed.job (generation, key) VALUES (1, '[1]')",
    "a drain": "SELECT embed_drain()",
    "a reader": "SELECT count(*) FROM embed_status",
}


@pytest.mark.parametrize("what", QUEUES)
def test_nothing_is_taken_from_who_has_to_do_with_it(connect, db, spent, what):
    """Not committed, it is not waited for; a job that is there is kept."""
    before = file_of(db)
    other = connect(autocommit=False)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    other.execute(QUEUES[what])
    spent.execute(EMPTY)
    assert file_of(db) == before
    other.commit()
    spent.execute(EMPTY)
    assert (file_of(db) == before) == (what == "a job")
    drain_all(db)
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (10,)


@pytest.mark.fresh_database
def test_a_job_that_comes_between_the_look_and_the_lock_is_kept(connect, db, spent):
    """Seen by the second look, which is behind the lock."""
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    db.execute(MIND)
    parked = Stoppable(spent, connect())
    spent.execute(AT_ONCE)
    assert parked.parked("CALL embed_work(until_empty => true)", "lock_job_table", "before")
    db.execute("INSERT INTO embed.job (generation, key) VALUES (1, '[1]')")
    parked.let_go()
    drain_all(db)
    assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == ("title 1\n\nedited",)


MUCH = "INSERT INTO embed.job (generation, key) SELECT 0, jsonb_build_array(i) FROM generate_series(1, 70000) i"

# Says so where it finishes what it has in hand before it takes more.
SAID = """
DO LANGUAGE plpython3u $$
import plpy
from evergreen.queue import claims
look = claims.has_only_own_jobs
def said(own_tokens):
    found = look(own_tokens)
    if found:
        plpy.execute("SELECT pg_catalog.set_config('application_name', 'finishing', false)")
    return found
claims.has_only_own_jobs = said
$$
"""


@pytest.mark.slow
def test_a_worker_that_always_has_a_batch_in_hand_does_it(db, connect, spent, provider):
    """No answer comes before the next batch is in its hands, unless it waits for that one alone."""
    provider.register(db)
    db.execute("SELECT embed_create('busy', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("SELECT embed_drain('busy'); SELECT embed_pause('docs')")
    db.execute("DELETE FROM embed.change_log")
    writer, numbers, files = connect(), iter(range(20)), []

    def answer(texts):
        if (number := next(numbers, None)) is not None:
            if not files:  # before, nothing is in hand
                writer.execute(MUCH)
                writer.execute("DELETE FROM embed.job WHERE generation = 0")
            files.append(file_of(writer))
            writer.execute("UPDATE docs SET body = %s WHERE id = %s", (f"edit {number}", 1 + (number + 1) % 10))
            wait_until(lambda: writer.execute(TWO).fetchone() == (True,), what="the next batch")

    provider.answer = answer
    db.execute("UPDATE docs SET body = 'first' WHERE id = 1")
    spent.execute(AT_ONCE)
    spent.execute(SAID)
    spent.execute("CALL embed_work('busy', until_empty => true)")
    assert files[0] != files[-1]
    assert_as_source(db, "busy", "docs")
