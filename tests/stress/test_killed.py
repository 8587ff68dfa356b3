"""A session that is terminated takes nothing with it but itself."""

import contextlib

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.endpoints import create, serve, table
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.stress

TRIES = 12


def test_a_session_terminated_at_its_first_request_does_not_bring_the_server_down():
    """A server of its own: a backend that crashes ends every session."""
    with Cluster() as cluster, LoopbackProvider() as provider:
        with psycopg.connect(cluster.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE")
            serve(db, provider, model={"inputs": 1}, max_in_flight=8)
            table(db, "docs", 2000)
            create(db)
        for _ in range(TRIES):
            with contextlib.suppress(psycopg.OperationalError, TimeoutError):
                terminate_at_first_request(cluster, provider)
            assert "signal 11" not in cluster.logfile.read_text()


def terminate_at_first_request(cluster, provider):
    """Start a worker, and end it when it has sent something, a few milliseconds sooner or later."""
    with (
        psycopg.connect(cluster.dsn(), autocommit=True) as db,
        psycopg.connect(cluster.dsn(), autocommit=True) as session,
    ):
        sent = len(provider.requests)
        work = Background(session, "CALL embed_work()")
        wait_until(lambda: len(provider.requests) > sent, timeout=5, what="a request")
        db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
        with pytest.raises(psycopg.OperationalError):
            work.result(5)
        gone = "SELECT FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: not db.execute(gone, (work.pid,)).fetchall(), timeout=5, what="its end")
