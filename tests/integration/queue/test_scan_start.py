"""A worker for which every look from the start is dear, as beside an open transaction: it misses nothing new."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, shown, source_texts, stale_keys
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

FOREVER = "CALL embed_work(max_runtime => '60 s')"
DEAR = """
DO LANGUAGE plpython3u $$
from evergreen.queue import scan_start
scan_start._CHEAP, scan_start._CHEAP_ROW, scan_start._SHARE, scan_start._MAX_INTERVAL_S = -1, 0, 1e9, {longest}
$$
"""
CHEAP = """
DO LANGUAGE plpython3u $$
from evergreen.queue import scan_start
scan_start._CHEAP, scan_start._ADVANCE_INTERVAL_S = {longest}, {longest}
$$
"""
NEVER = 3600  # seconds until the next look from the start


@pytest.fixture
def worker(connect, db, docs, model, provider):
    """Starts a worker that looks from the start every so many seconds; it has looked once when it is returned."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    sessions = []

    def start(longest, how=DEAR):
        session = connect()
        session.execute("SELECT embed_setting('lease')")  # loads the library
        session.execute(how.format(longest=longest))
        sessions.append((session, Background(session, FOREVER)))
        db.execute("UPDATE docs SET body = 'first' WHERE id = 10")
        wait_until(lambda: stale_keys(db) == [], what="the first look")
        provider.reset()

    yield start
    for session, work in sessions:
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()


@pytest.mark.few(1)
@pytest.mark.slow
@pytest.mark.parametrize("ends", ["RELEASE one", "ROLLBACK TO one"])
def test_who_commits_late_is_found(connect, db, worker, ends):
    """It wrote, in a savepoint, too, before what the worker has seen since: among others that are open, and stay so."""
    staying, late = connect(autocommit=False), connect(autocommit=False)
    staying.execute("UPDATE docs SET body = 'never' WHERE id = 1")
    late.execute("UPDATE docs SET body = 'late' WHERE id = 2")
    late.execute("SAVEPOINT one")
    late.execute("UPDATE docs SET body = 'late, too' WHERE id = 3")
    late.execute(ends)
    worker(NEVER)
    edit(db, 3)
    late.commit()
    wait_until(lambda: stale_keys(db) == [], what="what came late")
    assert {key: chunk for key, (chunk, _) in shown(db).items()} == source_texts(db)
    staying.rollback()
    assert_as_source(db)
    assert left(db) == {}


def test_a_truncate_that_commits_late_is_found(connect, db, worker):
    late = connect(autocommit=False)
    late.execute("SELECT embed_touch('docs', '[1]')")  # its transaction is older than what the worker sees first
    worker(NEVER)
    late.execute("TRUNCATE docs")
    late.commit()
    wait_until(lambda: db.execute("SELECT count(*) FROM embed.document").fetchone() == (0,), what="an empty store")


def test_what_was_put_back_waits_for_the_next_look_from_the_start(db, worker, provider):
    worker(0.3)
    provider.hold()
    db.execute("UPDATE docs SET body = 'cold ' || id WHERE id <= 3")
    provider.wait_for_requests()
    db.execute("UPDATE docs SET body = 'changed at the model' WHERE id = 2")
    provider.release()
    wait_until(lambda: stale_keys(db) == [], what="the row that changed while it was at the model")
    assert_as_source(db)
    assert left(db) == {}


@pytest.mark.slow
def test_a_backfill_goes_on(db, worker):
    worker(NEVER)
    db.execute("ALTER TABLE docs DISABLE TRIGGER ALL")
    db.execute("UPDATE docs SET body = 'unseen' WHERE id = 1")
    db.execute("ALTER TABLE docs ENABLE TRIGGER ALL")
    db.execute("SELECT embed_backfill('docs')")
    wait_until(lambda: stale_keys(db) == [], what="the backfill")
    assert_as_source(db)


def test_where_the_log_begins_is_not_written_down_each_time(db, worker):
    """Beside an open reader each look would go through all versions of that row: 0.8 ms, and 6 after 40 s."""
    worker(NEVER, CHEAP)
    floor = db.execute("SELECT scan_start FROM embed.change_log_state").fetchone()
    edit(db, 3)
    assert db.execute("SELECT scan_start FROM embed.change_log_state").fetchone() == floor


@pytest.mark.fresh_database
@pytest.mark.slow
def test_what_was_done_before_is_not_gone_through_again(connect, db, docs, model):
    """By plans that were made when the log was short: 28 ms a look among 200,000 rows, and 1 without."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    db.execute("ALTER TABLE embed.change_log SET (autovacuum_enabled = off)")
    staying = connect(autocommit=False)
    staying.execute("UPDATE docs SET body = 'never' WHERE id = 1")
    with connect() as session:
        session.execute("SELECT embed_setting('lease')")  # loads the library
        session.execute(DEAR.format(longest=NEVER))
        work = Background(session, FOREVER)
        edit(db, 10)
        db.execute("INSERT INTO embed.change_log (pipeline, key) SELECT 1, '[4]' FROM generate_series(1, 5000)")
        wait_until(lambda: db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,), what="many at once")
        edit(db, 10)
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()
    found = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'change_log_pipeline_idx'"
    wait_until(lambda: db.execute(found).fetchone()[0] > 5000, what="the session's statistics")
    assert db.execute(found).fetchone()[0] < 8 * 5000
    staying.rollback()


def edit(db, times):
    """So many changes, one after the other."""
    for number in range(times):
        db.execute("UPDATE docs SET body = %s WHERE id = 4", (f"edit {number} of {times}",))
        wait_until(lambda: stale_keys(db) == [], what="the edit")
