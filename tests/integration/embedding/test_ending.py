"""A session that ends with requests in flight does not crash the server."""

import socket
import threading

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.waiting import wait_until

ROUNDS = 10
CALLS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(max_runtime => '20 s')"}
ENDS = {"terminated": "SELECT pg_terminate_backend(%s)"}


@pytest.fixture(scope="module")
def own_cluster():
    with Cluster() as made:
        yield made


@pytest.fixture
def silent():
    """A server that takes connections and says nothing: requests hang in their TLS handshake."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def witness(own_cluster, silent):
    """A session that does not survive a crash of any other, in a database with ten rows to embed."""
    with psycopg.connect(own_cluster.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS story WITH (FORCE)")
        admin.execute("CREATE DATABASE story")
    with psycopg.connect(own_cluster.dsn("story"), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("SELECT embed_endpoint_set('silent', %s)", (f"https://127.0.0.1:{silent}/v1",))
        options = '{"inputs": 1}'
        db.execute("SELECT embed_model_add('silent', 'openai', 8, endpoint => 'silent', options => %s)", (options,))
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        db.execute("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 10) i")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'silent')")
        yield db


def run(session, statement):
    try:
        session.execute(statement)
    except psycopg.Error:
        return


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("end", ENDS)
def test_a_session_ends_while_its_first_requests_load_certificates_or_shake_hands(own_cluster, witness, call, end):
    gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    claims = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
    for number in range(ROUNDS):
        session = psycopg.connect(own_cluster.dsn("story"), autocommit=True)
        pid = session.info.backend_pid
        thread = threading.Thread(target=run, args=(session, CALLS[call]), daemon=True)
        thread.start()
        if call == "work":
            wait_until(lambda pid=pid: witness.execute(claims, (pid,)).fetchone() != (0,), what="a claim")
        threading.Event().wait(0.01 * number)  # another moment of the first requests each time
        witness.execute(ENDS[end], (pid,))
        thread.join(20)
        session.close()
        wait_until(lambda pid=pid: witness.execute(gone, (pid,)).fetchone() == (0,), what="the session's end")
    assert witness.execute("SELECT count(*) FROM docs").fetchone() == (10,)
