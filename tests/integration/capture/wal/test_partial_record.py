"""A WAL that ends on disk in the middle of a record, as it does where it comes there by pages: decoding waits then."""

import os
import signal
from contextlib import contextmanager

import psycopg
import pytest

from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.slow

FLUSHERS = "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('background writer', 'checkpointer')"
# Not to be compressed; a record of 3,000 bytes.
WRITE = "INSERT INTO other SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 94)"


@contextmanager
def standing_still(pids):
    """Processes that do nothing meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_worker_does_not_wait_for_the_rest(connect, db, pipeline):
    """The transaction stays open; no other session writes, and the processes that flush the WAL are stopped."""
    db.execute("CREATE TABLE other (body text); ALTER TABLE other ALTER body SET STORAGE PLAIN")
    session, staying = connect(), connect(autocommit=False)
    work = Background(session, "CALL embed_work(max_runtime => '60 s')")
    staying.execute(WRITE)
    begun = "SELECT xact_start > %s FROM pg_stat_activity WHERE pid = %s"
    with standing_still([pid for (pid,) in db.execute(FLUSHERS).fetchall()]):
        for _ in range(20):
            staying.execute(WRITE)
            pages = db.execute("SELECT pg_current_wal_insert_lsn() - 8192::numeric").fetchone()
            wait_until(
                lambda pages=pages: db.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", pages).fetchone()[0]
            )
            now = db.execute("SELECT clock_timestamp()").fetchone()[0]
            wait_until(
                lambda now=now: db.execute(begun, (now, session.info.backend_pid)).fetchone()[0],
                what="another transaction of the worker's",
            )
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
