"""One request to a model, and the line on which another thread can end it."""

import socket
from dataclasses import dataclass, field


class Lifeline:
    """The socket that a request waits on: whoever waits for the request may cut it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._cut = False

    def hold(self, held: socket.socket | None) -> None:
        """Remember the socket; one that comes after the cut is cut at once."""
        self._socket = held
        if self._cut:
            self.cut()

    def cut(self) -> None:
        """End whatever waits on the socket, from any thread: it sees the connection closed."""
        self._cut = True
        held = self._socket
        if held is not None:
            try:
                # Not SSLSocket.shutdown, which would pull the TLS state from under the reading thread.
                socket.socket.shutdown(held, socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already


@dataclass(frozen=True)
class Request:
    """Texts to embed. ``kind``: 'document' or 'query'; ``truncate``: the server may cut over-long texts."""

    texts: list[str]
    kind: str
    truncate: bool = False
    lifeline: Lifeline = field(default_factory=Lifeline, compare=False)
