"""Sessions that are cancelled, thrown out or killed at bad moments: no lock stays, and little is paid twice."""

import contextlib
import os
import random
import signal
import threading
from functools import partial
from pathlib import Path

import certifi
import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once
from tests.fixtures.pipelines.endpoints import create, serve, table
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.stress import WORK, Counting, Team, Writers, finish, left, locks, make_docs, seed_of
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.stress

DRAIN = "SELECT embed_drain()"


@pytest.fixture
def small(db, provider):
    """A model that takes five texts a request and eight requests at once."""
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=5)


@pytest.fixture
def elsewhere():
    """Another model."""
    with LoopbackProvider() as made:
        yield made


def ended(db, pid):
    """Wait until a backend is gone or idle."""
    busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state <> 'idle'"
    wait_until(lambda: db.execute(busy, (pid,)).fetchone() == (0,), what="the backend's end")


@pytest.fixture(scope="module")
def doomed(tmp_path_factory):
    """A server of this file's own, that trusts very many authorities: reading them takes its time."""
    folder = tmp_path_factory.mktemp("many")
    folder.chmod(0o755)
    for parent in [folder, *folder.parents][:3]:
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    bundle = folder / "many.pem"
    bundle.write_text(Path(certifi.where()).read_text() * 15)
    with Cluster(env={"SSL_CERT_FILE": str(bundle)}) as made:
        yield made


def is_active(db, pid):
    """Whether a session runs a statement."""
    return db.execute("SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active'", (pid,)).rowcount


@pytest.fixture(scope="module")
def mortal():
    """A server to be killed."""
    with Cluster() as made:
        yield made


def connected(cluster):
    """A session, or None while the server is not there."""
    try:
        return psycopg.connect(cluster.dsn(), autocommit=True)
    except psycopg.OperationalError:
        return None


def fresh_start(cluster, provider, rows):
    """Recreate extension, model and pipeline; return a session."""
    db = wait_until(lambda: connected(cluster), what="the server")
    db.execute("DROP EXTENSION IF EXISTS evergreen CASCADE")
    db.execute("DROP SCHEMA IF EXISTS embed_store CASCADE")
    db.execute("DROP TABLE IF EXISTS docs")
    db.execute("CREATE EXTENSION evergreen CASCADE")
    provider.register(db, endpoint={"max_in_flight": 8}, inputs=5)
    return db, make_docs(db, rows)


@pytest.mark.parametrize("how", ["terminated", "cancelled and closed"])
def test_a_session_that_ends_while_its_first_requests_start_takes_nobody_with_it(doomed, how):
    with LoopbackProvider() as provider:
        db, _ = fresh_start(doomed, provider, 100)
        for number in range(3):
            db.execute("UPDATE docs SET body = %s || id", (f"round {number} ",))
            session = connected(doomed)
            work = Background(session, WORK)
            wait_until(lambda: db.execute("SELECT count(*) > 0 FROM embed.in_flight").fetchone()[0], what="a request")
            if how == "terminated":
                db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
            else:
                session.cancel()
            with pytest.raises(psycopg.Error):
                work.result()
            session.close()
            ended(db, work.pid)
            with connected(doomed) as other:  # sessions that are connected stay
                other.execute("SELECT 1")
            drain_all(db)
            assert_as_source(db)


def test_a_cancel_at_any_moment_leaves_no_lock(connect, db):
    """A model of no cost with a text a request: most of the time goes into asking for leave."""
    chance = random.Random(seed_of("cancels"))
    db.execute("""
        CREATE FUNCTION quick(texts text[]) RETURNS vector[] LANGUAGE sql
        AS $$ SELECT array_agg('[1,2,3]'::vector) FROM unnest(texts) $$""")
    db.execute("SELECT embed_model_add('quick', 'function', 3, remote_name => 'quick', options => '{\"inputs\": 1}')")
    make_docs(db, 1000, "quick")
    session = connect()
    late = connect()
    kept = []
    for _ in range(100):
        work = Background(session, "CALL embed_work()")
        wait_until(partial(is_active, late, work.pid), what="the call")  # a cancel before it is none
        late.execute("SELECT pg_sleep(%s)", (0.05 + 0.05 * chance.random(),))
        session.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()
        if kept := locks(db):
            break
    assert kept == []


def test_cancels_one_after_the_other_leave_no_lock(connect, db, provider, small):
    """As from a user who presses ^C until it helps; twelve pipelines have a batch each."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    for number in range(12):
        db.execute("SELECT embed_create(%s, 'docs', columns => '{title,body}', model => 'loop')", (f"docs{number}",))
    session = connect()
    kept = []
    for number in range(20):
        provider.hold()
        db.execute("DELETE FROM docs")
        db.execute("INSERT INTO docs SELECT i, 'title', %s || i FROM generate_series(1, 5) i", (f"round {number} ",))
        work = Background(session, "CALL embed_work()")
        wait_until(lambda: db.execute("SELECT count(*) FROM embed.lease").fetchone()[0] >= 12, what="all claims")
        while work.running:
            db.execute("SELECT pg_cancel_backend(%s)", (work.pid,))
        with pytest.raises(psycopg.errors.QueryCanceled):
            work.result()
        provider.release()
        if kept := locks(db):
            break
        finish(db)
        db.execute("DELETE FROM embed.lease")
    assert kept == []


def test_nothing_is_left_of_a_worker_that_was_terminated(connect, db, provider, small):
    make_docs(db, 10)
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests()
    db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
    ended(db, work.pid)
    provider.release()
    db.execute("UPDATE docs SET body = 'other ' || id")
    db.execute(WORK)
    finish(db)
    assert_as_source(db)
    assert left(db) == {}


@pytest.mark.parametrize("end", ["terminated", "cancelled"])
def test_what_was_answered_before_the_end_is_not_paid_for_again(connect, db, provider, small, end):
    """The model has answered forty requests of a worker and has eight more; only those may be sent once more."""
    make_docs(db, 500)
    came = []

    def answer(texts):
        came.append(texts)
        if len(came) > 40:
            gate.wait(20)

    gate = threading.Event()
    provider.answer = answer
    session = connect()
    work = Background(session, "CALL embed_work()")
    provider.wait_for_requests(48)
    if end == "terminated":
        db.execute("SELECT pg_terminate_backend(%s)", (work.pid,))
    else:
        session.cancel()
    with pytest.raises(psycopg.Error):
        work.result()
    ended(db, work.pid)
    provider.answer = None
    gate.set()
    finish(db)
    assert_as_source(db)
    assert provider.sent.total() - len(provider.sent) <= 2 * 8 * 5


def in_flight(db):
    return {row[0] for row in db.execute("SELECT hash FROM embed.in_flight").fetchall()}


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_of_workers_that_end_at_any_moment_at_most_what_was_in_flight_is_sent_twice(
    connect, db, provider, elsewhere, small, end
):
    """In flight: a text that embed.in_flight has, from the claim to the apply."""
    seed = seed_of(end)
    chance = random.Random(seed)
    Counting(provider, pause=0.02)
    texts = make_docs(db, 200)
    elsewhere.register(db, "warm")

    def warm():
        """A session that has its certificates: see the first test."""
        session = connect()
        session.execute("SELECT embed('warm', 'warm')")
        return session

    team = Team(warm, [WORK] * 4, forgiving=True)
    wait_until(lambda: len(team.pids) == 4, what="the team")
    pausing = connect()
    most = 0
    with Writers(connect, seed, sessions=2, saves=150, rows=200) as writers:
        for _ in range(8):
            pausing.execute("SELECT pg_sleep(%s)", (0.1 + 0.2 * chance.random(),))
            pid = chance.choice(list(team.pids.values()))
            db.execute(f"SELECT {end}(%s)", (pid,))
            most += len(in_flight(db))
    team.stop()
    finish(db)
    assert_as_source(db)
    assert set(provider.sent) <= texts | writers.written
    assert provider.sent.total() - len(provider.sent) <= most


def test_a_killed_backend_costs_at_most_what_was_in_flight(mortal):
    seed = seed_of("kill")
    chance = random.Random(seed)
    with LoopbackProvider() as provider:
        Counting(provider, pause=0.02)
        db, _ = fresh_start(mortal, provider, 150)
        db.execute("INSERT INTO docs SELECT i, 'title', 'more ' || i FROM generate_series(1000, 1400) i")
        most = 0
        for number in range(2):
            db.execute("UPDATE docs SET body = %s || id WHERE id >= 1000", (f"round {number} ",))
            sessions = [connected(mortal) for _ in range(3)]
            works = [Background(session, WORK) for session in sessions]
            wait_until(partial(in_flight, db), what="texts in flight")
            db.execute("SELECT pg_sleep(%s)", (0.5 * chance.random(),))
            most += len(in_flight(db))
            os.kill(works[0].pid, signal.SIGKILL)
            for work in works:
                try:
                    work.result()
                except psycopg.OperationalError:
                    continue
            db = wait_until(lambda: lasting(mortal), what="the server")
        finish(db)
        assert_as_source(db)
        # 200 rows of a step may have been marked between the look and the kill
        assert provider.sent.total() - len(provider.sent) <= most + 2 * 150


def lasting(cluster):
    """A session that has done something: until all are thrown out the dying server still lets some in."""
    try:
        db = connected(cluster)
        return db if db is not None and drain_once(db) is not None else None
    except psycopg.OperationalError:
        return None


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
