"""Calls of a batch API have the guards of requests: time, size, addresses, redirects, cancels."""

import io
import threading
import time

import orjson
import pytest

from evergreen.core.errors import ConfigurationError, RetryableError
from evergreen.embedding.batches.protocol import BatchState, RemoteBatch
from tests.fixtures.providers.raw import RawServer, answer
from tests.fixtures.waiting import wait_until
from tests.unit.embedding.batches.conftest import ONE_FORMAT

TEXTS = [f"text {n}" for n in range(50)]
DONE = RemoteBatch("b", BatchState.DONE, ("files/o",), 50, 0)


@pytest.fixture
def raw(side, monkeypatch):
    """Let the side talk to a server that answers as the test says."""
    servers = []

    def made(answering):
        server = RawServer(answering).__enter__()
        servers.append(server)
        monkeypatch.setattr(type(side.server), "url", server.url + side.server.base)
        return server

    yield made
    for server in servers:
        server.__exit__()


def result_line(side, text):
    server = side.server
    batch = server.batches[next(iter(server.batches))]
    return next(line for line, request in zip(server.files[batch.output].lines(), batch.requests, strict=True)
                if request.text == text)  # fmt: skip


def in_time(body, most=8.0):
    started = time.monotonic()
    try:
        body()
    finally:
        assert time.monotonic() - started < most


def test_an_output_without_an_end_is_cut_by_its_size(side, raw):
    def endless(wire, _):
        wire.sendall(answer(b"", Content_Length=""))
        while True:
            wire.sendall(b'{"custom_id": "x", "key": "x"}\n' * 10_000)

    raw(endless)
    small = RemoteBatch("b", BatchState.DONE, ("files/o",), 1, 0)
    with pytest.raises(RetryableError, match="larger than such an answer can be"):
        list(side.results(small))


def test_a_line_without_an_end_is_cut_by_its_size(side, raw):
    def endless(wire, _):
        wire.sendall(answer(b"", Content_Length=""))
        while True:
            wire.sendall(b"1" * 65536)

    raw(endless)
    with pytest.raises(RetryableError, match="a line of the answer is longer"):
        list(side.results(DONE))


@ONE_FORMAT
def test_an_output_that_trickles_is_cut_by_the_time(side, raw):
    side.options = {"total_timeout": 0.5}

    def trickle(wire, _):
        wire.sendall(answer(b"", Content_Length=""))
        while not server.stopped.wait(0.01):
            wire.sendall(b" ")

    server = raw(trickle)
    with pytest.raises(RetryableError, match=r"within 0\.5 s"):
        in_time(lambda: list(side.results(DONE)))


@pytest.mark.few(2)
@ONE_FORMAT
def test_an_output_that_goes_on_fast_enough_may_take_longer_than_a_request(side, raw):
    batch = side.ended(TEXTS)
    content = b"".join(side.server.files[batch.outputs[0]].lines())
    piece = content + b"\n" * 20_000  # empty lines are none
    side.options = {"total_timeout": 0.4}

    def steady(wire, _):
        wire.sendall(answer(b"", Content_Length=""))
        for _ in range(10):
            wire.sendall(piece)
            server.stopped.wait(0.1)

    server = raw(steady)
    assert len(list(side.results(batch))) == 10 * len(TEXTS)


@pytest.mark.few(2)
@ONE_FORMAT
def test_what_the_reader_does_meanwhile_takes_no_time_of_the_download(side):
    batch = side.ended(TEXTS)
    side.options = {"total_timeout": 0.3}
    results = side.results(batch)
    first = next(results)
    threading.Event().wait(0.6)
    assert len([first, *results]) == len(TEXTS)


@ONE_FORMAT
def test_an_upload_that_is_not_taken_is_cut_by_the_time(side, raw):
    side.options = {"total_timeout": 0.5}

    def deaf(_, __):
        server.stopped.wait(20)

    server = raw(deaf)
    big = io.BytesIO(b"x" * 30_000_000)
    with pytest.raises(RetryableError, match="within"):
        in_time(lambda: side.api.upload(side.endpoint, side.model, "n", big, side.canceller))


@pytest.mark.parametrize("kind", ["upload", "create", "get", "content", "list", "files"])
def test_a_call_can_be_cancelled_from_another_thread(side, kind):
    batch = side.ended(TEXTS)
    file_id = side.find_file()
    calls = {
        "upload": lambda: side.upload(TEXTS),
        "create": lambda: side.create(file_id),
        "get": lambda: side.get(batch),
        "content": lambda: list(side.results(batch)),
        "list": side.find,
        "files": side.find_file,
    }
    before = side.server.counts[kind]
    side.server.hold_calls(kind)

    def cancel():
        side.server.wait_for_calls(kind, before + 1)
        side.canceller.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(RetryableError):
        in_time(calls[kind])


def test_a_download_can_be_cancelled_between_two_lines(side, raw):
    batch = side.ended(TEXTS)
    line = result_line(side, TEXTS[0])

    def slow(wire, _):
        wire.sendall(answer(b"", Content_Length="", Transfer_Encoding="chunked"))
        wire.sendall(b"%x\r\n%b\r\n" % (len(line), line))
        server.stopped.wait(20)

    server = raw(slow)
    results = side.results(batch)
    assert next(results).error is None
    side.canceller.cancel()
    with pytest.raises(RetryableError):
        in_time(lambda: next(results))


def test_a_download_that_is_abandoned_is_closed(side, raw):
    batch = side.ended(TEXTS)
    line = result_line(side, TEXTS[0])
    ended = threading.Event()

    def endless(wire, _):
        wire.sendall(answer(b"", Content_Length=""))
        try:
            while True:
                wire.sendall(line)
        except OSError:
            ended.set()

    raw(endless)
    results = side.results(batch)
    next(results)
    results.close()
    assert ended.wait(10)


@pytest.mark.parametrize("kind", ["upload", "create", "get", "find", "cancel"])
def test_no_redirect_of_a_call_is_followed(side, raw, kind):
    server = raw(lambda wire, _: wire.sendall(answer(b"", 307, Location="/elsewhere")))
    calls = {
        "upload": lambda: side.upload(TEXTS),
        "create": lambda: side.create("files/i"),
        "get": lambda: side.get(DONE),
        "find": side.find,
        "cancel": lambda: side.cancel(DONE),
    }
    with pytest.raises(ConfigurationError, match="307"):
        calls[kind]()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/",
        "http://2852039166/",
        "https://169.254.169.254/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user:password@127.0.0.1/",
        "",
    ],
)
def test_a_redirect_to_a_store_leads_nowhere_else(side, raw, to):
    server = raw(lambda wire, _: wire.sendall(answer(b"", 302, Location=to)))
    with pytest.raises((ConfigurationError, RetryableError)):
        list(side.results(DONE))
    assert len(server.requests) <= 2


def test_one_redirect_to_a_store_is_followed_and_no_second(side, raw, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    side.secret, side.options = "key", {"query": {"tenant": "t"}, "headers": {"X-Tenant": "t"}}
    server = raw(lambda wire, _: wire.sendall(answer(b"", 302, Location="/store/1?signature=s")))
    with pytest.raises(ConfigurationError, match="302"):
        list(side.results(DONE))
    first, *rest = server.requests
    assert b"sk-0123456789" in first
    assert len(rest) == (1 if side.api.name == "voyage" else 0)
    for request in rest:
        assert request.startswith(b"GET /store/1?signature=s HTTP/1.1")
        assert b"sk-" not in request
        assert b"enant" not in request


def test_a_redirect_never_leads_from_https_to_http():
    from evergreen.core.pipeline import Endpoint
    from evergreen.embedding.http import client
    from evergreen.embedding.http.reply import Reply

    endpoint = Endpoint("here", "https://x.example.com", None, {})
    url = "https://x.example.com/v1/files/o/content"
    assert (
        client._target(endpoint, url, Reply(b"", {"location": "https://s.example.com/a?b"}))
        == "https://s.example.com/a?b"
    )
    for target in ("http://s.example.com/a", "https://user:password@s.example.com/", "ftp://s.example.com/"):
        with pytest.raises(ConfigurationError, match="redirect that is not followed"):
            client._target(endpoint, url, Reply(b"", {"location": target}))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/upload", "https://127.0.0.1/upload", "http://evil.example.com/", "", "/up"]
)
def test_an_upload_goes_to_the_endpoint_only(side, raw, url):
    if side.api.name != "gemini":
        return
    server = raw(lambda wire, _: wire.sendall(answer(b"{}", X_Goog_Upload_URL=url)))
    with pytest.raises(RetryableError, match="no URL of its own"):
        side.upload(TEXTS)
    assert len(server.requests) == 1
    assert b"text 1" not in server.requests[0]


def test_an_address_that_requests_may_not_reach(side, monkeypatch):
    monkeypatch.setattr(type(side.server), "url", "http://169.254.169.254" + side.server.base)
    for call in (lambda: side.upload(TEXTS), side.find, lambda: side.get(DONE), lambda: list(side.results(DONE))):
        with pytest.raises(ConfigurationError):
            call()


def test_a_list_without_an_end_is_no_proof_that_nothing_is_there(side, raw):
    page = {"data": [{"id": "x"}], "has_more": True, "files": [{"name": "x"}], "operations": [{"name": "x"}],
            "nextPageToken": "x"}  # fmt: skip
    if side.api.name == "mistral":
        return  # whose pages are numbered
    server = raw(lambda wire, _: wire.sendall(answer(orjson.dumps(page))))
    for find in (side.find, side.find_file):
        with pytest.raises(RetryableError, match="no end"):
            find()
    assert len(server.requests) == 4


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"no JSON", b'{"id": 5, "name": 5, "file": {"name": 5}}',
                                  b'{"id": "../a", "name": "/x", "file": {"name": ""}}',
                                  b'{"id": "a b?c", "name": "a?b", "file": {"name": "a#b"}}'])  # fmt: skip
def test_an_answer_that_is_none_is_tried_again(side, raw, body):
    if side.api.name == "gemini":
        raw(
            lambda wire, _: wire.sendall(answer(body, X_Goog_Upload_URL=side.server.url.removesuffix("/v1beta/openai")))
        )
    else:
        raw(lambda wire, _: wire.sendall(answer(body)))
    for call in (lambda: side.upload(TEXTS), lambda: side.create("files/i"), lambda: side.get(DONE)):
        with pytest.raises(RetryableError):
            call()


def test_an_unknown_state_is_one_that_goes_on(side):
    batch = side.submitted(TEXTS)
    side.server.batches[batch.id].state = "pondering"
    if side.api.name == "mistral":
        return  # whose server knows the words only that it has
    side.server.auto = False
    assert side.get(batch).state is BatchState.RUNNING


def test_waiting_ends_with_the_answer(side):
    side.server.hold_calls("create")
    file_id = side.upload(TEXTS)
    done = threading.Event()
    threading.Thread(target=lambda: (side.create(file_id), done.set()), daemon=True).start()
    side.server.wait_for_calls("create")
    assert not done.is_set()
    side.server.release_calls("create")
    wait_until(done.is_set)
