"""COPY in binary from a file in memory: the fastest way into a table, where the system and its policy allow it."""

import fcntl
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from evergreen import db
from evergreen.db.errors import in_class
from evergreen.db.queries import Query

# The server cannot open our file: no /proc, or the system or a policy forbids it.
_NO_FILE = ("42501", "58", "0A000")
_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_JSONB = b"\1"  # the version of its binary form
# The first descriptor for our files. The server's own are below: it opens at most max_files_per_process (default
# 1,000), and most systems allow 1,024.
_DESCRIPTOR = 1000
_PARTS_AT_ONCE = 512  # of rows: some 40 of them, which stay in the processor's cache
#: Where the server counts a timestamptz from: 2000-01-01 in microseconds of Unix time.
EPOCH = 946_684_800_000_000
Row = tuple[bytes | memoryview, ...]


def copy(query: Query, fields: int, rows: Iterable[Row]) -> bool:
    """Run a COPY from ``{path}``; return False, with nothing done, if that is not possible here.

    A row is its fields in any pieces. The receive functions of text and jsonb convert from the client's encoding,
    whatever COPY's option: the caller checks that it is UTF-8.
    """
    try:
        with in_memory_file(fields, rows) as path:
            db.ddl(query.with_identifiers(path=db.literal(path)))
    except OSError:
        return False
    except db.DatabaseError as error:
        if not in_class(error, *_NO_FILE):
            raise
        return False
    return True


def now() -> int:
    """Return the time as a timestamptz is sent."""
    return time.time_ns() // 1000 - EPOCH


def field(value: bytes) -> bytes:
    """Return a field: its length, then its bytes."""
    return len(value).to_bytes(4, "big") + value


def jsonb(text: str) -> bytes:
    """Return a field of type jsonb."""
    return field(_JSONB + text.encode())


@contextmanager
def in_memory_file(fields: int, rows: Iterable[Row]) -> Generator[str]:
    """Write rows to an in-memory file; yield its path, valid in this process.

    A row is its fields in any pieces. Raises OSError if the system has no such files.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no files in memory")
    count = fields.to_bytes(2, "big")
    parts: list[bytes | memoryview] = [_START]
    for row in rows:
        parts.append(count)
        parts += row
    parts.append(_END)
    with os.fdopen(os.memfd_create("evergreen"), "wb", buffering=0) as file:
        for start in range(0, len(parts), _PARTS_AT_ONCE):
            some = memoryview(b"".join(parts[start : start + _PARTS_AT_ONCE]))
            while some:
                some = some[file.write(some) :]
        with _fixed_descriptor(file.fileno()) as number:
            yield f"/proc/self/fd/{number}"


@contextmanager
def _fixed_descriptor(descriptor: int) -> Generator[int]:
    """Yield a duplicate descriptor with the same number each time.

    The path is part of the COPY statement, and pg_stat_statements would have an entry for each number.
    """
    try:
        duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _DESCRIPTOR)
    except OSError:  # the system allows fewer descriptors
        yield descriptor
        return
    try:
        yield duplicate
    finally:
        os.close(duplicate)
