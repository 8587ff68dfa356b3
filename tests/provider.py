"""A model on loopback that speaks as OpenAI, Ollama, Cohere and Voyage do: counts what it is sent, waits, and fails."""

import contextlib
import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import orjson
import psycopg
from faults import Fault, Reply, status
from protocols import BY_PATH, PROTOCOLS, Call

Answer = tuple[int, bytes] | None


def vector(text: str, dimensions: int) -> list[float]:
    """The vector this model gives a text: a deterministic unit vector."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    floats = np.frombuffer(raw, dtype="<i4").astype(np.float32)
    return (floats / np.linalg.norm(floats)).tolist()


class LoopbackProvider:
    """A real HTTP server in threads of this process.

    ``sent`` counts texts, ``requests`` lists the batches, ``calls`` all that is known of each, ``tokens`` is what was
    billed. ``hold()`` makes requests wait until ``release()``. ``answer`` may be set to a function from the list of
    texts to (status, body), or None for the ordinary answer; it is called before the vectors are made. ``fail()`` adds
    one of the faults of faults.py. A request that the real provider would not understand fails the test.
    """

    def __init__(self, dimensions: int = 8) -> None:
        self.dimensions = dimensions
        self.sent: Counter[str] = Counter()
        self.requests: list[list[str]] = []
        self.calls: list[Call] = []
        self.tokens = 0
        self.answer: Callable[[list[str]], Answer] | None = None
        self.stopped = threading.Event()
        self._faults: list[tuple[Fault, Callable[[Call], bool], list[None] | None]] = []
        self._complaints: list[str] = []
        self._open = threading.Event()
        self._open.set()
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), self)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """The base URL of protocol ``openai``, as embed_endpoint_set takes it."""
        return self.url_of("openai")

    def url_of(self, protocol: str) -> str:
        """The base URL of a protocol."""
        return f"http://127.0.0.1:{self.port}{PROTOCOLS[protocol].base}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.release()
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        assert kind is not None or not self._complaints, self._complaints

    def register(
        self,
        db: psycopg.Connection[Any],
        name: str = "loop",
        *,
        provider: str = "openai",
        endpoint: dict[str, Any] | None = None,
        secret: str | None = None,
        **options: Any,
    ) -> None:
        """Register endpoint and model under a name; ``endpoint`` are the endpoint's options."""
        db.execute(
            "SELECT embed_endpoint_set(%s, %s, secret => %s, options => %s)",
            (name, self.url_of(provider), secret, orjson.dumps(endpoint or {}).decode()),
        )
        db.execute(
            "SELECT embed_model_add(%s, %s, %s, endpoint => %s, options => %s)",
            (name, provider, self.dimensions, name, orjson.dumps(options).decode()),
        )

    def hold(self) -> None:
        """From now on requests wait."""
        self._open.clear()

    def release(self) -> None:
        """Let the waiting requests, and all later ones, go on."""
        self._open.set()

    def fail(self, fault: Fault, *, times: int | None = None, when: Callable[[Call], bool] = lambda _: True) -> None:
        """Do something wrong, for ever or so many times, to all calls or some."""
        self._faults.append((fault, when, None if times is None else [None] * times))

    def mend(self) -> None:
        """Do everything right again."""
        self._faults.clear()

    def wait_for_requests(self, number: int = 1, timeout: float = 20) -> None:
        """Wait until this many requests have come in since the provider was made."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= number, timeout):
                raise TimeoutError(f"{len(self.requests)} requests came in, {number} were expected")

    def reset(self) -> None:
        """Forget what was counted."""
        with self._changed:
            self.sent.clear()
            self.requests.clear()
            self.calls.clear()
            self.tokens = 0

    def handle(self, call: Call) -> Reply:
        """Answer one request."""
        with self._changed:
            self.sent.update(call.texts)
            self.requests.append(call.texts)
            self.calls.append(call)
            self._changed.notify_all()
        self._open.wait(60)
        reply = Reply(call, [vector(text, call.dimensions or self.dimensions) for text in call.texts])
        if self.answer is not None and (given := self.answer(call.texts)) is not None:
            status(*given)(reply)
        for fault, when, left in list(self._faults):
            if when(call) and (left is None or left):
                if left:
                    left.pop()
                fault(reply)
        with self._changed:
            self.tokens += call.tokens if reply.status == 200 else 0
        return reply

    def complain(self, what: str) -> None:
        """Remember a request that no such provider would take."""
        self._complaints.append(what)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], provider: LoopbackProvider) -> None:
        self.provider = provider
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = urlsplit(self.path)
        protocol = BY_PATH.get(parts.path)
        if protocol is None:
            self._send(b"HTTP/1.1 404 X\r\nContent-Length: 11\r\n\r\n", b"no such URL")
            return
        if complaint := protocol.complaint(body):
            self.server.provider.complain(complaint)
            self._send(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n", complaint.encode()[:0])
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.provider.handle(
            Call(protocol, parts.path, headers, body, dict(parse_qsl(parts.query, keep_blank_values=True)))
        )
        head, content = reply.rendered()
        self._send(head, content, reply)

    def _send(self, head: bytes, body: bytes, reply: Reply | None = None) -> None:
        self.close_connection = reply is None or "Content-Length" in reply.headers
        with contextlib.suppress(OSError):
            if reply is not None:
                reply.send(self.connection, head, body)
            else:
                self.connection.sendall(head + body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""
