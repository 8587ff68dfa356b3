"""A model of its own process that costs next to nothing: ready-made vectors behind OpenAI's and Ollama's protocols.

Run as a program, ``model_server.py DIMENSIONS MILLISECONDS``, it prints the port it listens on and serves until it is
terminated; every request waits so many milliseconds, any number of them side by side. A text's vector is one of
``POOL``, chosen by its checksum, and stands in memory in the form in which it is sent: base64, or JSON numbers.
"""

import asyncio
import base64
import sys
from functools import cache
from typing import ClassVar
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


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request after the other: as much of it as the clients of a bench need."""

    model: ClassVar[Model]
    latency: ClassVar[float]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = bytearray()
        self._expected = -1

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
            asyncio.get_running_loop().call_later(self.latency, self._send, self._path, body)

    def _send(self, path: str, body: bytes) -> None:
        answer = self.model.answer(path, body)
        self._transport.write(_head(len(answer)) + answer)


def _length(head: str) -> int:
    lines = (line.partition(":") for line in head.split("\r\n"))
    return next((int(value) for name, _, value in lines if name.lower() == "content-length"), 0)


@cache
def _head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length


async def serve(dimensions: int, milliseconds: int) -> None:
    """Serve until terminated."""
    Connection.model = Model(dimensions)
    Connection.latency = milliseconds / 1000
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
