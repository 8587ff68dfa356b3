"""A crash costs only time: the next drain finishes the work immediately."""

import os
import signal

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import Background, wait_until

CALLS = ["SELECT embed_drain()", "CALL embed_work(until_empty => true)"]


@pytest.fixture(scope="module")
def doomed():
    """A server of this file's own."""
    with Cluster() as made:
        yield made


def _connect(cluster):
    return psycopg.connect(cluster.dsn(), autocommit=True)


def _back(cluster):
    try:
        return _connect(cluster)
    except psycopg.OperationalError:
        return None


def _kill_a_backend(cluster, work):
    """The postmaster then ends all sessions; until it has, it may still accept one."""

    def thrown_out():
        try:
            witness.execute("SELECT 1")
        except psycopg.OperationalError:
            return True
        return False

    with _connect(cluster) as witness:
        os.kill(work.pid, signal.SIGKILL)
        wait_until(thrown_out, what="the server's crash")


def _crash(cluster, work):
    cluster.restart("immediate")


@pytest.mark.few(2)
@pytest.mark.parametrize("disaster", [_kill_a_backend, _crash])
@pytest.mark.parametrize("call", CALLS)
def test_the_next_drain_finishes_what_a_crash_interrupted(doomed, disaster, call):
    with LoopbackProvider() as provider:
        with _connect(doomed) as db:
            db.execute("DROP EXTENSION IF EXISTS evergreen CASCADE")
            db.execute("DROP SCHEMA IF EXISTS embed_store CASCADE")
            db.execute("DROP TABLE IF EXISTS docs")
            db.execute("CREATE EXTENSION evergreen CASCADE")
            provider.register(db)
            db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
            db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
            db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
            drain_all(db)
            db.execute("UPDATE docs SET body = 'edited' WHERE id <= 4")
            db.execute("INSERT INTO docs VALUES (11, 'new', 'one')")
            db.execute("DELETE FROM docs WHERE id = 10")
        provider.reset()
        provider.hold()
        with _connect(doomed) as session:
            work = Background(session, call)
            provider.wait_for_requests()
            disaster(doomed, work)
            with pytest.raises(psycopg.OperationalError):
                work.result()
        with wait_until(lambda: _back(doomed), timeout=60, what="the server") as db:
            db.execute("UPDATE docs SET body = 'after it' WHERE id = 7")
            provider.release()
            assert drain_once(db) == 7
            assert_as_source(db)
