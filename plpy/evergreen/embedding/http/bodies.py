"""Bodies of requests that are read from a file while they are sent."""

import os
from collections.abc import Iterator
from typing import BinaryIO

_PIECE = 1 << 16


class FileBody:
    """A file from its beginning to its end, perhaps with something around it."""

    def __init__(self, file: BinaryIO, before: bytes = b"", after: bytes = b"") -> None:
        self._file, self._before, self._after = file, before, after
        self._length = len(before) + file.seek(0, os.SEEK_END) + len(after)
        file.seek(0)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        """Read it in pieces."""
        while piece := self.read(_PIECE):
            yield piece

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, or nothing at the end."""
        if self._before:
            piece, self._before = self._before, b""
            return piece
        if piece := self._file.read(size):
            return piece
        piece, self._after = self._after, b""
        return piece


def form(file: BinaryIO, name: str, fields: dict[str, str]) -> tuple[FileBody, str]:
    """Return a form (RFC 7578) of fields and a file ``file``, and its content type. ``name``: of the file, plain."""
    boundary = os.urandom(16).hex()
    parts = [_part(boundary, f'name="{field}"') + value + "\r\n" for field, value in fields.items()]
    parts.append(_part(boundary, f'name="file"; filename="{name}"', "Content-Type: application/jsonl\r\n"))
    after = f"\r\n--{boundary}--\r\n"
    return FileBody(file, "".join(parts).encode(), after.encode()), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, named: str, more: str = "") -> str:
    return f"--{boundary}\r\nContent-Disposition: form-data; {named}\r\n{more}\r\n"
