"""embed_create on a table in use: it reads no row of a large one, and no session waits while it waits for its lock."""

import psycopg
import pytest

from tests.fixtures.error_checks import everything
from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

CREATE = "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')"
# What the server has counted of the table, by all sessions.
READ = """
SELECT pg_stat_force_next_flush(), s.seq_scan, s.seq_tup_read, s.idx_scan, s.idx_tup_fetch,
       b.heap_blks_read + b.heap_blks_hit, b.idx_blks_read + b.idx_blks_hit
FROM pg_stat_user_tables s JOIN pg_statio_user_tables b USING (relid) WHERE s.relname = 'docs'
"""


def read(db):
    """What was read of the table so far."""
    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT pg_stat_clear_snapshot()")
    return db.execute(READ).fetchone()[1:]


@pytest.mark.few(3)
@pytest.mark.parametrize("prepare", ["ANALYZE docs", "SELECT 1"], ids=["analysed", "never analysed"])
@pytest.mark.parametrize("call", ["create", "build", "backfill"])
def test_no_row_of_a_large_table_is_read(db, model, call, prepare):
    """Whatever its size: where a table is small its rows are counted, as that is quicker than to guess."""
    rows = 20_000 if prepare == "ANALYZE docs" else 130_000
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text) WITH (autovacuum_enabled = off)")
    db.execute("ALTER TABLE docs ALTER body SET STORAGE PLAIN")
    db.execute("INSERT INTO docs SELECT i, 'title', repeat('x', 500) FROM generate_series(1, %s) i", (rows,))
    db.execute(prepare)
    calls = [CREATE, "SELECT embed_build('docs', template => '$body')", "SELECT embed_backfill('docs')"]
    calls = calls[:1] if call == "create" else [calls[0], calls[1 if call == "build" else 2]]
    for earlier in calls[:-1]:
        db.execute(earlier)
    before = read(db)
    db.execute(calls[-1])
    assert read(db) == before
    db.execute("SELECT count(*) FROM docs")
    assert read(db) != before, "reading would have been seen"


def test_others_write_on_while_it_waits_for_a_long_writer(connect, db, docs, model):
    """It tries for the lock, for an instant each time; in the end it has it, and what was written is embedded."""
    long = connect(autocommit=False)
    long.execute("UPDATE docs SET body = 'long' WHERE id = 1")
    session = connect()
    create = Background(session, CREATE)
    tried = "SELECT count(*) FROM pg_locks WHERE pid = %s AND relation = 'docs'::regclass AND NOT granted"
    wait_until(lambda: db.execute(tried, (session.info.backend_pid,)).fetchone() == (1,), what="a try for the lock")
    other = connect(options="-c statement_timeout=2000")
    for number in range(100):
        other.execute("UPDATE docs SET body = %s WHERE id = 2", (f"other {number}",))
        other.execute("SELECT count(*) FROM docs")
    assert create.running
    long.commit()
    create.result()
    other.execute("UPDATE docs SET body = 'captured' WHERE id = 3")
    drain_all(db)
    assert_as_source(db)
    db.execute("SELECT embed_search('docs', 'long')")


@pytest.mark.slow
def test_a_writer_that_stays_is_named_and_nothing_is_left(connect, db, docs, model):
    before = everything(db)
    long = connect(autocommit=False)
    long.execute("UPDATE docs SET body = 'long' WHERE id = 1")
    session = connect()
    session.execute("SELECT embed_setting('lease')")  # loads the library, which is told to give up sooner
    session.execute("DO LANGUAGE plpython3u 'from evergreen.db import locks; locks.LOCK_ATTEMPTS = 3'")
    with pytest.raises(psycopg.errors.LockNotAvailable, match=r"could not lock table public\.docs") as refused:
        session.execute(CREATE)
    assert "pg_locks" in refused.value.diag.message_hint
    assert everything(db) == before
    long.commit()
    session.execute(CREATE)
    drain_all(db)
    assert_as_source(db)
