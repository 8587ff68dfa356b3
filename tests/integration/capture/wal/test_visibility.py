"""A commit that waits for a synchronous standby is in the WAL before anybody sees it: it is not read before, either."""

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures import stress
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.server.template import make_template
from tests.fixtures.waiting import Background, wait_until
from tests.fixtures.wal import OPTIONS, work, work_until

pytestmark = pytest.mark.slow

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def cluster():
    """A server with a synchronous standby that never answers."""
    with Cluster(options=OPTIONS | {"synchronous_commit": "local"}) as made:
        made.configure({"synchronous_standby_names": "nobody"})
        made.restart()
        yield made


@pytest.fixture(scope="module")
def template(cluster):
    """Its database with the extension."""
    return make_template(cluster)


@pytest.mark.few(1)
@pytest.mark.parametrize("by", ["work", "drain"])
def test_what_nobody_sees_yet_is_not_read_and_not_passed_over(connect, db, pipeline, provider, by):
    """What was committed behind it waits with it; what was committed before does not."""
    read = (lambda: work(db)) if by == "work" else (lambda: db.execute("SELECT embed_drain()"))
    writer = connect(options="-c synchronous_commit=on")
    db.execute("UPDATE docs SET body = 'before' WHERE id = 1")
    stuck = Background(writer, "UPDATE docs SET body = 'still invisible' WHERE id = 2")
    wait_until(lambda: db.execute(WAITS, (stuck.pid,)).fetchone() == (1,), what="the wait for the standby")
    db.execute("UPDATE docs SET body = 'behind it' WHERE id = 3")
    for _ in range(3):
        read()
    assert provider.sent == {"title 1\n\nbefore": 1}
    assert db.execute("SELECT body FROM docs WHERE id = 2").fetchone() == ("body 2",)
    db.execute("SELECT pg_cancel_backend(%s)", (stuck.pid,))  # it gives up waiting, and what it did is seen
    stuck.result()
    read()
    work(db)
    assert_as_source(db)
    assert provider.sent == {
        f"title {i}\n\n{text}": 1 for i, text in ((1, "before"), (2, "still invisible"), (3, "behind it"))
    }


def test_a_server_that_restarts_meanwhile(cluster, database, provider):
    """After a crash the transaction is seen: it was in the WAL."""
    database("restarted").init()
    with psycopg.connect(cluster.dsn("restarted"), autocommit=True) as session:
        provider.register(session)
        stress.make_docs(session, 10)
        session.execute("SELECT embed_capture_set('docs', 'cdc')")
        work_until(session, "docs", "cdc")
        provider.reset()
        writer = psycopg.connect(cluster.dsn("restarted"), autocommit=True, options="-c synchronous_commit=on")
        stuck = Background(writer, "UPDATE docs SET body = 'in the log' WHERE id = 2")
        wait_until(lambda: session.execute(WAITS, (stuck.pid,)).fetchone() == (1,), what="the wait for the standby")
        work(session)
        assert provider.sent == {}
        cluster.restart("immediate")
    with pytest.raises(psycopg.OperationalError):
        stuck.result()
    with psycopg.connect(cluster.dsn("restarted"), autocommit=True) as session:
        work(session)
        assert_as_source(session)
    assert provider.sent == {"title\n\nin the log": 1}
