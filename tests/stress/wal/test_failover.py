"""Capture from the WAL when servers change places: promotion, pg_rewind, and a crash while COPY loads the source.

The kind: the WAL that was read up to some position is not the one that goes on. Slots do not follow to another server,
and what was read, but not replicated, is on a timeline that ended. Each time a worker notices that the slot is gone,
makes another one, and checks all rows; of a crash nothing is to be noticed.
"""

import shutil
import subprocess
import threading
from contextlib import suppress

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.pipelines.freshness import all_fresh, verify
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until
from tests.fixtures.wal import OPTIONS, slots, work, work_until

pytestmark = pytest.mark.stress

COPY = "COPY docs (id, title, body) FROM STDIN"


def run_as_server(cluster, program, *arguments):
    user = {"user": cluster.os_user, "group": cluster.os_user, "extra_groups": []} if cluster.os_user else {}
    subprocess.run([str(cluster.bin(program)), *map(str, arguments)], check=True, cwd=cluster.root, **user)


def own_settings(cluster):
    cluster.configure({"port": cluster.port, "unix_socket_directories": str(cluster.root)})


@pytest.fixture
def primary():
    """A server with a drained pipeline that is read from the WAL."""
    with Cluster(options=OPTIONS | {"wal_log_hints": True, "wal_keep_size": "512MB"}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE")
            hash_model(db)
            db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
            db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
            db.execute(
                "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8', capture => 'cdc')"
            )
            work_until(db, "docs", "cdc")
        yield made


@pytest.fixture
def standby(primary):
    """A streaming standby of it."""
    made = Cluster()
    try:
        if made.os_user:
            shutil.chown(made.root, made.os_user, made.os_user)
        run_as_server(made, "pg_basebackup", "-d", primary.dsn(), "-D", made.data, "-R", "-c", "fast")
        own_settings(made)
        made.start()
        yield made
    finally:
        made.remove()


def replayed(db, replica):
    position = db.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
    caught_up = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until(lambda: replica.execute(caught_up, (position,)).fetchone() == (True,), what="the standby")


def promote(cluster):
    session = psycopg.connect(cluster.dsn(), autocommit=True)
    session.execute("SELECT pg_promote()")
    wait_until(lambda: session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,), what="the promotion")
    return session


def fresh(db, rows):
    work_until(db, "docs", "cdc")
    assert slots(db) == db.execute("SELECT ARRAY[embed.slot_name()::text]").fetchone()[0]
    assert_as_source(db)
    assert verify(db, "docs") == all_fresh(rows)


def test_a_promoted_standby_and_a_rewound_primary_miss_nothing(primary, standby):
    """Read and not read, replicated and not replicated; the servers change places twice."""
    with psycopg.connect(primary.dsn(), autocommit=True) as db, psycopg.connect(standby.dsn(), autocommit=True) as copy:
        db.execute("UPDATE docs SET body = 'read' WHERE id = 1")
        work(db)
        db.execute("UPDATE docs SET body = 'replicated, not read' WHERE id = 2; DELETE FROM docs WHERE id = 3")
        replayed(db, copy)
    promoted = promote(standby)
    with psycopg.connect(primary.dsn(), autocommit=True) as db:  # not told yet: a timeline that will end
        db.execute("UPDATE docs SET body = 'lost' WHERE id = 4; UPDATE docs SET body = 'lost' WHERE id = 5")
        work(db)
    promoted.execute("UPDATE docs SET body = 'on the new timeline' WHERE id = 5")
    fresh(promoted, 9)

    primary.stop()
    promoted.execute("CHECKPOINT")
    run_as_server(primary, "pg_rewind", "-D", primary.data, "--source-server", standby.dsn(), "-R")
    own_settings(primary)
    primary.start()
    with psycopg.connect(primary.dsn(), autocommit=True) as copy:
        promoted.execute(
            "UPDATE docs SET body = 'for the way back' WHERE id = 6; INSERT INTO docs VALUES (11, 't', 'b')"
        )
        replayed(promoted, copy)
    promoted.close()
    standby.stop()
    back = promote(primary)
    back.execute("UPDATE docs SET body = 'back again' WHERE id = 7")
    fresh(back, 10)
    back.close()


def rows(first, last):
    return "".join(f"{i}\ttitle\tcopied {i}\n" for i in range(first, last))


def copy_into_a_crash(cluster):
    with psycopg.connect(cluster.dsn()) as loader, loader.cursor() as cursor, cursor.copy(COPY) as copy:
        for start in range(100, 20_100, 1000):
            copy.write(rows(start, start + 1000))
        cluster.stop("immediate")
        copy.write(rows(20_100, 200_000))


def work_into_a_crash(cluster):
    with suppress(psycopg.Error), psycopg.connect(cluster.dsn(), autocommit=True) as session:
        session.execute("CALL embed_work(max_runtime => '30 s')")


def test_a_crash_during_copy_loses_nothing(primary):
    """Before its commit, right after it, and between the reading and the work; with a worker that reads meanwhile."""
    thread = threading.Thread(target=work_into_a_crash, args=(primary,))
    thread.start()
    with pytest.raises(psycopg.Error):
        copy_into_a_crash(primary)
    thread.join()
    primary.start()
    with psycopg.connect(primary.dsn(), autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM docs").fetchone() == (10,)
        fresh(db, 10)
        with db.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.write(rows(100, 5100))
    primary.restart("immediate")
    with psycopg.connect(primary.dsn(), autocommit=True) as db:
        db.execute("SELECT embed_drain(max_rows => 100)")
        db.execute("UPDATE docs SET body = 'after the first crash' WHERE id = 100")
    primary.restart("immediate")
    with psycopg.connect(primary.dsn(), autocommit=True) as db:
        fresh(db, 5010)
