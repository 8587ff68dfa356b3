"""A queue that is empty and full of what was done is begun anew; never while anybody has something in it."""

import pytest
from documents import drain_all
from history import MIND, MISS
from people import hash_model
from stopping import Stoppable

EMPTY = """
DO LANGUAGE plpython3u $$
from evergreen.schedule import claim
claim.empty_queue()
$$
"""
AT_ONCE = "DO LANGUAGE plpython3u 'from evergreen.schedule import worker; worker._EMPTYING = 0.0'"
FILE = "SELECT pg_relation_filenode('embed.job')"


@pytest.fixture
def spent(connect, db, docs):
    """A queue of some megabytes in which nothing is left; returns a session that may begin it anew."""
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


def test_a_job_that_comes_between_the_look_and_the_lock_is_kept(connect, db, spent):
    """Seen by the second look, which is behind the lock."""
    db.execute(MISS)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    db.execute(MIND)
    parked = Stoppable(spent, connect())
    spent.execute(AT_ONCE)
    assert parked.parked("CALL embed_work(until_empty => true)", "lock_queue", "before")
    db.execute("INSERT INTO embed.job (generation, key) VALUES (1, '[1]')")
    parked.let_go()
    drain_all(db)
    assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == ("title 1\n\nedited",)
