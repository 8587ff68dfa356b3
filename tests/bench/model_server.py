"""A model of its own process that costs next to nothing: ready-made vectors behind OpenAI's and Ollama's protocols.

Run as a program, ``model_server.py DIMENSIONS MILLISECONDS SEATS``, it prints the port it listens on and serves until
it is terminated. A request takes so many milliseconds, and so many are served side by side; the others wait for a seat.
A text's vector is one of ``POOL``, chosen by its checksum, and stands in memory in the form in which it is sent:
base64, or JSON numbers.
"""

import asyncio
import base64
import heapq
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

POOL = 512


def vectors(dimensions: int) -> NDArray[np.float32]:
    """Return the unit vectors there are, one a row."""
    drawn = np.random.default_rng(dimensions).standard_normal((POOL, dimensions), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def number(text: str) -> int:
    """Return which of them is a text's."""
    return crc32(text.encode()) % POOL


class Model:
    """Answers by path."""

    def __init__(self, dimensions: int) -> None:
        pool = vectors(dimensions)
        self._base64 = [base64.b64encode(one.tobytes()) for one in pool]
        self._json = [orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY) for one in pool]

    def answer(self, path: str, body: bytes) -> bytes:
        """Return the body of the answer to a request."""
        if path.endswith("/api/show"):
            return b'{"details": {}, "model_info": {}, "capabilities": ["embedding"]}'
        texts = orjson.loads(body)["input"]
        if path.endswith("/api/embed"):
            listed = b",".join(self._json[number(text)] for text in texts)
            return b'{"model":"pool","embeddings":[%b],"prompt_eval_count":%d}' % (listed, len(texts))
        items = (b'{"index":%d,"embedding":"%b"}' % (i, self._base64[number(text)]) for i, text in enumerate(texts))
        return b'{"object":"list","data":[%b],"model":"pool"}' % b",".join(items)


class Seats:
    """When a request that comes now is answered."""

    def __init__(self, seconds: float, number: int) -> None:
        self._seconds = seconds
        self._free = [0.0] * number

    def take(self, now: float) -> float:
        """Take the seat that is free first; return when the answer is due."""
        due = max(now, self._free[0]) + self._seconds
        heapq.heapreplace(self._free, due)
        return due


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request after the other: as much of it as the clients of a bench need."""

    def __init__(self, model: Model, seats: Seats) -> None:
        self._model = model
        self._seats = seats
        self._received = bytearray()
        self._expected = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected < 0 and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            self._path = head.split(" ", 2)[1]
            self._expected = end + 4 + _length(head)
        if 0 <= self._expected <= len(self._received):
            body = bytes(self._received[self._received.find(b"\r\n\r\n") + 4 : self._expected])
            del self._received[: self._expected]
            self._expected = -1
            loop = asyncio.get_running_loop()
            loop.call_at(self._seats.take(loop.time()), self._send, self._path, body)

    def _send(self, path: str, body: bytes) -> None:
        answer = self._model.answer(path, body)
        self._transport.write(_head(len(answer)) + answer)


def _length(head: str) -> int:
    lines = (line.partition(":") for line in head.split("\r\n"))
    return next((int(value) for name, _, value in lines if name.lower() == "content-length"), 0)


@cache
def _head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length


async def serve(dimensions: int, milliseconds: int, seats: int) -> None:
    """Serve until terminated."""
    model, taken = Model(dimensions), Seats(milliseconds / 1000, seats)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(model, taken), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving(dimensions: int, milliseconds: int = 0, seats: int = 1000) -> Generator[str]:
    """Serve in a process of its own; yield the URL, without a path."""
    command = [sys.executable, Path(__file__), str(dimensions), str(milliseconds), str(seats)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
