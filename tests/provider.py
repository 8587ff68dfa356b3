"""An OpenAI-compatible model on loopback: counts every text it is sent, can be held, slowed and made to fail."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np
import orjson
import psycopg

Answer = tuple[int, bytes] | None


def vector(text: str, dimensions: int) -> list[float]:
    """The vector this model gives a text: a deterministic unit vector."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    floats = np.frombuffer(raw, dtype="<i4").astype(np.float32)
    return (floats / np.linalg.norm(floats)).tolist()


class LoopbackProvider:
    """A real HTTP server in threads of this process.

    ``sent`` counts texts, ``requests`` lists the batches. ``hold()`` makes requests wait until ``release()``;
    ``arrived`` tells how many have come in, held or not. ``answer`` may be set to a function from the list of texts to
    (status, body), or None for the ordinary answer; it is called before the vectors are made.
    """

    def __init__(self, dimensions: int = 8) -> None:
        self.dimensions = dimensions
        self.sent: Counter[str] = Counter()
        self.requests: list[list[str]] = []
        self.answer: Callable[[list[str]], Answer] | None = None
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), self)

    @property
    def url(self) -> str:
        """The base URL, as embed_endpoint_set takes it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def register(self, db: psycopg.Connection[Any], name: str = "loop", **options: Any) -> None:
        """Register endpoint and model under a name."""
        db.execute("SELECT embed_endpoint_set(%s, %s)", (name, self.url))
        db.execute(
            "SELECT embed_model_add(%s, 'openai', %s, endpoint => %s, options => %s)",
            (name, self.dimensions, name, orjson.dumps(options).decode()),
        )

    def hold(self) -> None:
        """From now on requests wait."""
        self._open.clear()

    def release(self) -> None:
        """Let the waiting requests, and all later ones, go on."""
        self._open.set()

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

    def handle(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Answer one request."""
        texts = list(body["input"])
        with self._changed:
            self.sent.update(texts)
            self.requests.append(texts)
            self._changed.notify_all()
        self._open.wait(60)
        if self.answer is not None and (given := self.answer(texts)) is not None:
            return given
        data = [{"index": i, "embedding": vector(text, self.dimensions)} for i, text in enumerate(texts)]
        return 200, orjson.dumps({"object": "list", "data": data, "model": body.get("model")})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], provider: LoopbackProvider) -> None:
        self.provider = provider
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        status, body = self.server.provider.handle(orjson.loads(self.rfile.read(length)))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""
