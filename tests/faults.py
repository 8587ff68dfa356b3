"""What a model's server does wrong, on demand: each fault changes an answer, or the way it goes over the wire."""

import contextlib
import gzip
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from protocols import Call, Item, as_base64

Send = Callable[[socket.socket, bytes, bytes], None]  # socket, status line and headers, body


def _plainly(wire: socket.socket, head: bytes, body: bytes) -> None:
    wire.sendall(head + body)


@dataclass
class Reply:
    """An answer on its way out; faults change it before it is sent."""

    call: Call
    items: list[Item]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # None: made from the items
    reshape: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
    send: Send = _plainly

    def rendered(self) -> tuple[bytes, bytes]:
        """Status line and headers, and body."""
        body = self.body
        if body is None:
            body = orjson.dumps(self.reshape(self.call.protocol.answer(self.call, self.items)))
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} X", *(f"{name}: {value}" for name, value in headers.items() if value)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", body


Fault = Callable[[Reply], None]


def status(code: int, body: bytes = b'{"error": "no"}', **headers: str) -> Fault:
    """Another status; header names with underscores for dashes."""

    def fault(reply: Reply) -> None:
        reply.status, reply.body = code, body
        reply.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return fault


def headers(**given: str) -> Fault:
    """More headers on an answer that is otherwise right."""
    return lambda reply: reply.headers.update({name.replace("_", "-"): value for name, value in given.items()})


def insufficient_quota() -> Fault:
    """What OpenAI says when nobody has paid."""
    return status(429, b'{"error": {"type": "insufficient_quota", "code": "insufficient_quota"}}', retry_after="1")


def redirect(to: str) -> Fault:
    """Elsewhere."""
    return status(307, b"", Location=to)


def html() -> Fault:
    """A login page of somebody in between."""
    return status(200, b"<html><body>Please log in</body></html>", Content_Type="text/html")


def truncated(share: float = 0.5) -> Fault:
    """Half of the JSON, with a length that says it is all."""

    def fault(reply: Reply) -> None:
        body = reply.rendered()[1]
        reply.body = body[: int(len(body) * share)]

    return fault


def reshaped(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """Another JSON."""

    def fault(reply: Reply) -> None:
        reply.reshape = change

    return fault


def backwards() -> Fault:
    """The right items, in another order than the texts; only for answers with an ``index``."""
    return reshaped(lambda answer: {**answer, "data": answer["data"][::-1]})


def count(change: int) -> Fault:
    """More or fewer vectors than texts."""

    def fault(reply: Reply) -> None:
        reply.items = reply.items[:change] if change < 0 else reply.items + reply.items[:1] * change

    return fault


def each(change: Callable[[list[float]], Item], only: Callable[[str], bool] = lambda _: True) -> Fault:
    """Other vectors for some texts."""

    def fault(reply: Reply) -> None:
        pairs = zip(reply.items, reply.call.texts, strict=True)
        reply.items = [change(item) if isinstance(item, list) and only(text) else item for item, text in pairs]

    return fault


def in_base64() -> Fault:
    """Base64, asked for or not."""
    return each(as_base64)


def compressed(size: int) -> Fault:
    """Megabytes of nothing, small on the wire."""
    return status(200, gzip.compress(bytes(size)), Content_Encoding="gzip")


def _on_the_wire(send: Send, **given: str | None) -> Fault:
    def fault(reply: Reply) -> None:
        reply.send = send
        reply.headers |= {name.replace("_", "-"): value or "" for name, value in given.items()}

    return fault


def _while_listened_to(wire: socket.socket, pieces: Iterator[bytes]) -> None:
    """Send until the other side has gone."""
    with contextlib.suppress(OSError):
        for piece in pieces:
            wire.sendall(piece)


def _byte_by_byte(wire: socket.socket, content: bytes, go_on: Callable[[float], bool]) -> None:
    with contextlib.suppress(OSError):
        for byte in content:
            wire.sendall(bytes([byte]))
            if go_on(0.005):
                return


def trickling_headers(stop: Callable[[float], bool]) -> Fault:
    """Headers byte by byte, with a pause between; ``stop``: an Event's wait."""
    return _on_the_wire(lambda wire, head, _: _byte_by_byte(wire, head[:-2] + b"X-A: " + b"a" * 60_000, stop))


def trickling_body(stop: Callable[[float], bool]) -> Fault:
    """A body that is always about to go on."""

    def send(wire: socket.socket, head: bytes, body: bytes) -> None:
        wire.sendall(head)
        _byte_by_byte(wire, body.ljust(60_000), stop)

    return _on_the_wire(send, Content_Length="60000")


def _forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def endless(piece: bytes = b" " * 65536, *, in_chunks: bool = False) -> Fault:
    """A body without an end, or in chunks of which already the first has none."""

    def send(wire: socket.socket, head: bytes, body: bytes) -> None:
        wire.sendall(head)
        _while_listened_to(wire, _forever(b"1" * 65536 if in_chunks else piece))

    return _on_the_wire(send, Content_Length=None, **({"Transfer_Encoding": "chunked"} if in_chunks else {}))


def endless_headers() -> Fault:
    """A header line without an end."""
    return _on_the_wire(lambda wire, *_: _while_listened_to(wire, _forever(b"x" * 65536)))


def reset(after: int = 0) -> Fault:
    """The connection is reset, after so many bytes of the body."""

    def send(wire: socket.socket, head: bytes, body: bytes) -> None:
        if after:
            wire.sendall(head + body[:after])
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.shutdown(socket.SHUT_RD)
        wire.close()

    return _on_the_wire(send)


def noise() -> Fault:
    """What is no HTTP."""
    return _on_the_wire(lambda wire, *_: wire.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
