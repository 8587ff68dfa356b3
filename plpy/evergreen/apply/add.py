"""Add chunks to a generation table: by COPY in binary where that is possible, else by INSERT."""

import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from evergreen import db
from evergreen.apply import binary, vectors
from evergreen.apply.vectors import Known
from evergreen.catalog import models
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.detect import expressions
from evergreen.prepare.documents import Document
from evergreen.queries import Query, load

SQL = load(__file__)

# document, chunk_no, chunk_hash, fingerprint, src_hash, embedded_at: each with its length; the hashes are SHA-256
_FIXED = struct.Struct(">iq ii i32s i32s i32s iq")
_FIELDS = 10  # and the columns of the key
# The server may not open a file of ours: there is no /proc, or the system or a rule forbids it.
_NO_FILE = ("42501", "58", "0A000")


class Added(NamedTuple):
    """A chunk to add; a tuple, because there is one for every row."""

    document: int
    number: int
    hash: bytes
    text: str
    vector: Known
    of: Document


def add(pipeline: Pipeline, generation: Generation, chunks: list[Added]) -> None:
    """Add chunks with their vectors."""
    if chunks and not _copy(pipeline, generation, chunks):
        _insert(pipeline, generation, chunks)


def _copy(pipeline: Pipeline, generation: Generation, chunks: list[Added]) -> bool:
    """Add chunks by COPY; False where that is not possible, and nothing was done."""
    # What receives text and jsonb converts from the client's encoding, whatever COPY is told.
    if not binary.has_key(pipeline) or not db.value(SQL.utf8):
        return False
    key_fields = binary.key_fields(pipeline, [one.of.key for one in chunks])
    vector_fields = binary.vector_fields([one.vector for one in chunks], generation.model.dimensions)
    model = binary.field(generation.model.name.encode())
    now = time.time_ns() // 1000 - binary.EPOCH

    def rows() -> Iterator[tuple[bytes | memoryview, ...]]:
        for (document, number, chunk_hash, text, _, of), key, vector in zip(
            chunks, key_fields, vector_fields, strict=True
        ):
            numbers = 8, document, 4, number
            hashes = 32, chunk_hash, 32, of.fingerprint, 32, of.src_hash
            yield _FIXED.pack(*numbers, *hashes, 8, now), model, key, binary.field(text.encode()), vector

    key_names = ", ".join(f"k{position}" for position in range(1, len(pipeline.key) + 1))
    query = SQL.copy_chunks.on(table=generation.table, key_names=key_names)
    try:
        with binary.in_memory(_FIELDS + len(pipeline.key), rows()) as path:
            db.ddl(query.on(path=db.literal(path)))
    except OSError:
        return False
    except db.DatabaseError as error:
        if not db.sqlstate(error).startswith(_NO_FILE):
            raise
        return False
    return True


def _insert(pipeline: Pipeline, generation: Generation, chunks: list[Added]) -> None:
    db.run(
        _insert_query(pipeline, generation),
        [one.document for one in chunks],
        [one.of.key for one in chunks],
        [one.number for one in chunks],
        [one.text for one in chunks],
        [one.hash for one in chunks],
        [vectors.literal(one.vector) for one in chunks],
        [one.of.fingerprint for one in chunks],
        [one.of.src_hash for one in chunks],
        generation.model.name,
    )


def _insert_query(pipeline: Pipeline, generation: Generation) -> Query:
    """The insert with the key's columns, converted by their types' input functions: a cast may be the user's code."""
    names: list[str] = []
    values: list[str] = []
    for position, (_, _, type_name) in enumerate(pipeline.key):
        names.append(f"k{position + 1}")
        if type_name.startswith("pg_catalog."):
            values.append(f"{expressions.key_text('u.key', position)}::{type_name}")
        else:
            element = f"pg_catalog.jsonb_build_object('v', {expressions.key_text('u.key', position)})"
            values.append(f"(SELECT r.v FROM pg_catalog.jsonb_to_record({element}) r (v {type_name}))")
    return SQL.insert_chunks.on(
        table=generation.table,
        key_names=", ".join(names),
        key_values=", ".join(values),
        vector=f"{models.vector_schema()}.vector",
    )
