"""embed_wait where changes are read from the WAL: what is committed and not read yet is waited for."""

import pytest
from psycopg import errors

from tests.fixtures.pipelines.documents import shown
from tests.fixtures.waiting import Background, begin_to_wait, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


def waited(db, key, timeout="0 s"):
    return db.execute("SELECT embed_wait('docs', %s::jsonb, %s)", (key, timeout)).fetchone()[0]


@pytest.mark.few(1)
@pytest.mark.parametrize("key", ["1", None])
@pytest.mark.parametrize("commit", ["on", "off"])
def test_a_change_that_nobody_has_read_yet(connect, db, pipeline, key, commit):
    """Also one whose commit is not on disk yet; and where nothing else is written meanwhile."""
    db.execute(f"SET synchronous_commit = {commit}")
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    assert waited(db, key) is False
    session = connect()
    wait = begin_to_wait(db, session, key)
    worker = connect()
    work = Background(worker, "CALL embed_work(max_runtime => '60 s')")
    assert wait.result() == [(True,)]
    assert shown(db)[1][0] == "title 1\n\nnew"
    for number in range(5):  # nothing, or what is none of the pipeline's, was written since
        assert waited(db, key, "10 s") is True, number
        db.execute("UPDATE docs SET n = n + 1")
        db.execute("CREATE TABLE IF NOT EXISTS other (n int)")
    assert work.running
    worker.cancel()
    wait_until(lambda: not work.running)


def test_drains_read_it_too(connect, db, pipeline):
    db.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    wait = begin_to_wait(db, connect(), "1")
    wait_until(lambda: db.execute("SELECT embed_drain()") and not wait.running, what="the row")
    assert wait.result() == [(True,)]
    assert shown(db)[1][0] == "title 1\n\nnew"


def test_the_transaction_that_wrote_cannot_wait(connect, db, pipeline):
    session = connect(autocommit=False)
    session.execute("UPDATE docs SET body = 'new' WHERE id = 1")
    with pytest.raises(errors.ActiveSqlTransaction):
        waited(session, "1")
