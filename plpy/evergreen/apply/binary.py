"""Rows in the binary format of COPY, handed to the server in memory."""

import fcntl
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson

from evergreen.apply.vectors import Known
from evergreen.catalog.pipelines import Pipeline

_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_JSONB = b"\1"  # the version of its binary form

# The first descriptor that a file of ours is given. The server's own are below: it has at most max_files_per_process,
# 1,000 unless set, and most systems allow 1,024.
_DESCRIPTOR = 1000

#: Where the server counts a timestamptz from: 2000-01-01 in microseconds of Unix time.
EPOCH = 946_684_800_000_000


def field(value: bytes) -> bytes:
    """One field: its length, then itself."""
    return len(value).to_bytes(4, "big") + value


def _integer(size: int) -> Callable[[Any], bytes]:
    length = size.to_bytes(4, "big")
    return lambda value: length + value.to_bytes(size, "big", signed=True)


# Key columns whose binary form is ours to make from JSON; for any other type its own input function has to.
_FIELDS: dict[str, Callable[[Any], bytes]] = {
    "pg_catalog.int2": _integer(2),
    "pg_catalog.int4": _integer(4),
    "pg_catalog.int8": _integer(8),
    "pg_catalog.text": lambda value: field(value.encode()),
    'pg_catalog."varchar"': lambda value: field(value.encode()),
    "pg_catalog.uuid": lambda value: field(uuid.UUID(value).bytes),
}


def has_key(pipeline: Pipeline) -> bool:
    """True when the types of a pipeline's key are known here."""
    return all(type_name in _FIELDS for _, _, type_name in pipeline.key)


def key_fields(pipeline: Pipeline, keys: Sequence[str]) -> list[bytes]:
    """The fields of the key's columns, and of the key itself as jsonb, for each of some stored keys."""
    columns = [_FIELDS[type_name] for _, _, type_name in pipeline.key]
    parsed = orjson.loads(f"[{','.join(keys)}]")
    whole = [field(_JSONB + key.encode()) for key in keys]
    if len(columns) == 1:
        return [columns[0](value) + key for (value,), key in zip(parsed, whole, strict=True)]
    return [
        b"".join([column(value) for column, value in zip(columns, values, strict=True)]) + key
        for values, key in zip(parsed, whole, strict=True)
    ]


def vector_fields(vectors: Sequence[Known], dimensions: int) -> list[memoryview]:
    """The fields of a column of vectors, made in one array: one by one they take three times as long."""
    layout = [("length", ">i4"), ("dimensions", ">u2"), ("unused", ">u2"), ("floats", ">f4", (dimensions,))]
    made = np.zeros(len(vectors), dtype=layout)
    made["length"] = 4 + 4 * dimensions
    made["dimensions"] = dimensions
    floats = made["floats"]
    for i, vector in enumerate(vectors):
        floats[i] = np.frombuffer(vector, dtype=">f4", offset=4) if isinstance(vector, bytes) else vector
    size = made.itemsize
    whole = memoryview(made.tobytes())
    return [whole[start : start + size] for start in range(0, len(whole), size)]


@contextmanager
def in_memory(fields: int, rows: Iterable[tuple[bytes | memoryview, ...]]) -> Generator[str]:
    """Put rows of so many fields into a file that is only in memory; yield its path, which names it in this process.

    A row comes as its fields, in any pieces. Raises OSError where there is no such file.
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
        whole = memoryview(b"".join(parts))
        while whole:
            whole = whole[file.write(whole) :]
        with _under_a_fixed_number(file.fileno()) as number:
            yield f"/proc/self/fd/{number}"


@contextmanager
def _under_a_fixed_number(descriptor: int) -> Generator[int]:
    """Yield the number of a duplicate, the same each time.

    The path is part of the text of COPY, and pg_stat_statements would have an entry for each number.
    """
    try:
        duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _DESCRIPTOR)
    except OSError:  # the system allows fewer
        yield descriptor
        return
    try:
        yield duplicate
    finally:
        os.close(duplicate)
