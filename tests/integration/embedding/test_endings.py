"""However slow, endless or dead a model's server is, a request ends in time; a session's end harms no other session."""

import contextlib
import socket
import threading
import time

import numpy as np
import psycopg
import pytest

from evergreen.core.embedding import RequestCanceller
from evergreen.core.errors import RejectedError, RetryableError
from evergreen.embedding.http import client
from evergreen_host.cluster import Cluster
from tests.fixtures.providers import faults
from tests.fixtures.providers.loopback import vector
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database

TEXTS = ["one", "two words", "three words here"]


def right(answer, texts=TEXTS):
    return all(np.allclose(v, vector(text, 8), atol=1e-6) for v, text in zip(answer.vectors, texts, strict=True))


def ended_in(seconds, ask, kind=RetryableError, **given):
    started = time.monotonic()
    with pytest.raises(kind) as found:
        ask("openai", TEXTS, **given)
    assert time.monotonic() - started < seconds
    return str(found.value)


@pytest.mark.parametrize("fault", [faults.trickling_headers, faults.trickling_body])
def test_a_server_that_trickles_meets_the_total_time_out(ask, provider, fault):
    """Every single read is within the read time-out."""
    provider.fail(fault(provider.stopped.wait))
    said = ended_in(5, ask, endpoint={"read_timeout": 30, "total_timeout": 0.5})
    assert "0.5 s" in said


def test_a_server_that_hangs_meets_the_read_time_out(ask, provider):
    provider.hold()
    assert "0.3 s" in ended_in(5, ask, endpoint={"read_timeout": 0.3, "total_timeout": 30})


def test_a_server_that_accepts_nothing_meets_a_time_out(ask):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as others:
        for _ in range(3):  # a full queue: the next connection is not even begun
            other = others.enter_context(socket.socket())
            other.settimeout(0)
            other.connect_ex(server.getsockname())
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        assert "cannot be reached" in ended_in(5, ask, url=url, endpoint={"connect_timeout": 0.3})


def test_a_server_that_reads_nothing_meets_the_total_time_out(ask):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        started = time.monotonic()
        with pytest.raises(RetryableError):
            ask("openai", ["x" * 50_000_000], url=url, endpoint={"total_timeout": 0.5})
        assert time.monotonic() - started < 5


def test_a_server_that_reads_no_second_request_meets_the_total_time_out(ask):
    """Over a connection that was kept: nothing is left of the time to connect."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once():
            with server.accept()[0] as wire:
                wire.recv(65536)
                wire.sendall(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
                over.wait(60)

        threading.Thread(target=answer_once, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(RetryableError, match="503"):
            ask("openai", ["x"], url=url)
        started = time.monotonic()
        with pytest.raises(RetryableError):
            ask("openai", ["x" * 50_000_000], url=url, endpoint={"total_timeout": 0.5})
        over.set()
        assert time.monotonic() - started < 5


def test_a_port_where_nobody_listens(ask):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    assert "cannot be reached" in ended_in(5, ask, url=url)


def test_a_name_that_takes_long_to_look_up(ask, monkeypatch):
    release = threading.Event()

    def look_up(*_, **__):
        release.wait(20)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        said = ended_in(5, ask, url="https://models.example.com/v1", endpoint={"connect_timeout": 0.2})
    finally:
        release.set()
    assert "looked up" in said


@pytest.mark.parametrize(
    "fault",
    [
        faults.endless(),
        faults.endless(b"[" * 65536),
        faults.endless(in_chunks=True),
        faults.endless_headers(),
        faults.endless(b"ffffffffff\r\n" + b" " * 65536),
    ],
)
def test_a_body_without_an_end_is_cut_by_its_size(ask, provider, fault):
    provider.fail(fault)
    assert "larger" in ended_in(20, ask) or "broke" in ended_in(20, ask)


def test_the_end_of_an_endless_refusal_is_not_waited_for(ask, provider):
    provider.fail(faults.endless())
    provider.fail(lambda reply: setattr(reply, "status", 400))
    ended_in(5, ask, kind=RejectedError)


@pytest.mark.parametrize("where", ["waiting", "in the body", "in the headers"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_request_can_be_cut_from_outside(ask, provider, where, kept):
    """Over a new connection, and over one that an earlier request has left."""
    if kept:
        ask("openai", TEXTS)
        provider.reset()
    canceller = RequestCanceller()
    if where == "waiting":
        provider.hold()
    else:
        fault = faults.trickling_body if where == "in the body" else faults.trickling_headers
        provider.fail(fault(provider.stopped.wait))

    def cut():
        provider.wait_for_requests(1)
        canceller.cancel()

    threading.Thread(target=cut, daemon=True).start()
    ended_in(10, ask, canceller=canceller)
    provider.release()
    provider.mend()
    assert right(ask("openai", TEXTS)), "other connections go on"


def test_a_line_cut_before_the_request_ends_it(ask, provider):
    provider.hold()
    canceller = RequestCanceller()
    canceller.cancel()
    ended_in(10, ask, canceller=canceller)


def test_a_line_cut_after_the_answer_cuts_nobody_else(ask, provider):
    """The connection is kept, and may be another request's by then."""
    connections = set()
    provider.fail(lambda _: connections.add(threading.get_ident()))
    canceller = RequestCanceller()
    ask("openai", TEXTS, canceller=canceller)
    canceller.cancel()
    assert right(ask("openai", TEXTS))
    assert len(connections) == 1


def test_connections_are_kept(ask, provider):
    ports = set()
    provider.fail(lambda _: ports.add(threading.get_ident()))
    for _ in range(5):
        ask("openai", TEXTS)
    assert len(ports) == 1, "the server has a thread for each connection"


def test_many_requests_at_once_have_a_connection_each_and_all_are_kept(ask, provider):
    together = threading.Barrier(64)
    connections = set()
    provider.fail(lambda _: (connections.add(threading.get_ident()), together.wait(20)))
    for _ in range(2):
        threads = [threading.Thread(target=ask, args=("openai", TEXTS)) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(connections) == 64


def test_a_body_in_a_message_is_short_and_on_one_line(ask, provider):
    provider.fail(faults.status(500, b"x\ny\x00" * 10_000))
    with pytest.raises(RetryableError) as found:
        ask("openai", TEXTS)
    assert len(str(found.value)) < 700
    assert str(found.value).isprintable()


@pytest.mark.slow
def test_large_answers_are_read_whole(ask, provider):
    texts = [f"text {i}" for i in range(2048)]
    provider.dimensions = 1536
    answer = ask("openai", texts, dimensions=1536, encoding_format="float")
    assert len(answer.vectors) == 2048
    assert np.allclose(answer.vectors[-1], vector(texts[-1], 1536), atol=1e-6)
    assert client.MAX_BODY < 2**30


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
        options = '{"inputs": 1, "watch": null}'
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


@pytest.mark.few(1)
@pytest.mark.slow
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
