"""Add chunks to a generation table: by binary COPY if possible, otherwise by INSERT."""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen import db
from evergreen.catalog import models
from evergreen.core.document import Document
from evergreen.core.embedding import AnyVector, Vector
from evergreen.core.errors import RejectedError
from evergreen.core.job import Claim
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.queries import Query, load
from evergreen.source import expressions as ex
from evergreen.storage import binary_copy, indexes
from evergreen.storage.binary_copy import field, jsonb

if TYPE_CHECKING:
    import numpy as np
    import orjson
else:
    np, orjson = lazy("numpy"), lazy("orjson")

SQL = load(__package__)
# document, chunk_no, chunk_hash, fingerprint, src_hash, embedded_at: each with its length; the hashes are SHA-256
_FIXED = struct.Struct(">iq ii i32s i32s i32s iq")
_FIELDS = 10  # and the columns of the key
_LARGEST = 65504.0  # the largest float16


class Added(NamedTuple):
    """A chunk to add; a tuple, because there is one for every row."""

    document_id: int
    number: int
    hash: bytes
    text: str
    vector: AnyVector
    document: Document


def add(pipeline: Pipeline, generation: Generation, chunks: list[Added]) -> None:
    """Add chunks with their vectors."""
    if chunks and not _copy(pipeline, generation, chunks):
        _insert(pipeline, generation, chunks)


def _copy(pipeline: Pipeline, generation: Generation, chunks: list[Added]) -> bool:
    """Add chunks by COPY; return False, with nothing done, if that is not possible."""
    if not can_encode_key(pipeline) or not db.value(SQL.uses_utf8):
        return False
    key_fields = encode_keys(pipeline, [one.document.key for one in chunks])
    vector_fields = encode_vectors([one.vector for one in chunks], generation.model.dimensions)
    model = field(generation.model.name.encode())
    now = binary_copy.now()

    def rows() -> Iterator[tuple[bytes | memoryview, ...]]:
        for (document_id, number, chunk_hash, text, _, document), key, vector in zip(
            chunks, key_fields, vector_fields, strict=True
        ):
            numbers = 8, document_id, 4, number
            hashes = 32, chunk_hash, 32, document.fingerprint, 32, document.src_hash
            yield _FIXED.pack(*numbers, *hashes, 8, now), model, key, field(text.encode()), vector

    key_names = ", ".join(f"k{position}" for position in range(1, len(pipeline.key) + 1))
    query = SQL.copy_chunks.with_identifiers(table=generation.table, key_names=key_names)
    return binary_copy.copy(query, _FIELDS + len(pipeline.key), rows())


def _insert(pipeline: Pipeline, generation: Generation, chunks: list[Added]) -> None:
    db.run(
        _insert_query(pipeline, generation),
        [one.document_id for one in chunks],
        [one.document.key for one in chunks],
        [one.number for one in chunks],
        [one.text for one in chunks],
        [one.hash for one in chunks],
        [vector_literal(one.vector) for one in chunks],
        [one.document.fingerprint for one in chunks],
        [one.document.src_hash for one in chunks],
        generation.model.name,
    )


def _insert_query(pipeline: Pipeline, generation: Generation) -> Query:
    """Return the INSERT; key columns use their types' input functions, because a cast may run user code."""
    names: list[str] = []
    values: list[str] = []
    for position, (_, _, type_name) in enumerate(pipeline.key):
        names.append(f"k{position + 1}")
        if type_name.startswith("pg_catalog."):
            values.append(f"{ex.key_text('u.key', position)}::{type_name}")
        else:
            element = f"pg_catalog.jsonb_build_object('v', {ex.key_text('u.key', position)})"
            values.append(f"(SELECT r.v FROM pg_catalog.jsonb_to_record({element}) r (v {type_name}))")
    return SQL.insert_chunks.with_identifiers(
        table=generation.table,
        key_names=", ".join(names),
        key_values=", ".join(values),
        vector=f"{models.vector_schema()}.vector",
    )


def _integer(size: int) -> Callable[[Any], bytes]:
    length = size.to_bytes(4, "big")
    return lambda value: length + value.to_bytes(size, "big", signed=True)


# Key types whose binary form we build from JSON; other types need their input function.
_KEY_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "pg_catalog.int2": _integer(2),
    "pg_catalog.int4": _integer(4),
    "pg_catalog.int8": _integer(8),
    "pg_catalog.text": lambda value: field(value.encode()),
    'pg_catalog."varchar"': lambda value: field(value.encode()),
    "pg_catalog.uuid": lambda value: field(bytes.fromhex(value.replace("-", ""))),
}


def can_encode_key(pipeline: Pipeline) -> bool:
    """Return whether all types of a pipeline's key have an encoder."""
    return all(type_name in _KEY_ENCODERS for _, _, type_name in pipeline.key)


def encode_keys(pipeline: Pipeline, keys: Sequence[str]) -> list[bytes]:
    """Return, for each stored key, the fields of its columns and of the key as jsonb."""
    columns = [_KEY_ENCODERS[type_name] for _, _, type_name in pipeline.key]
    parsed = orjson.loads(f"[{','.join(keys)}]")
    whole = [jsonb(key) for key in keys]
    if len(columns) == 1:
        return [columns[0](value) + key for (value,), key in zip(parsed, whole, strict=True)]
    return [
        b"".join([column(value) for column, value in zip(columns, values, strict=True)]) + key
        for values, key in zip(parsed, whole, strict=True)
    ]


def encode_vectors(vectors: Sequence[AnyVector], dimensions: int) -> list[memoryview]:
    """Return the fields of a vector column, built in one array: three times as fast as one by one."""
    layout = [("length", ">i4"), ("dimensions", ">u2"), ("unused", ">u2"), ("floats", ">f4", (dimensions,))]
    made = np.zeros(len(vectors), dtype=layout)
    made["length"] = 4 + 4 * dimensions
    made["dimensions"] = dimensions
    floats = made["floats"]
    for i, vector in enumerate(vectors):
        floats[i] = np.frombuffer(vector, dtype=">f4", offset=4) if isinstance(vector, bytes) else vector
    size = made.itemsize
    whole = made.view(np.uint8).data
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def vector_literal(vector: AnyVector) -> str:
    """Return pgvector's text for a vector; orjson writes float32 arrays 15 times as fast as lists."""
    return orjson.dumps(floats(vector), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def floats(vector: AnyVector) -> Vector:
    """Return the numbers of a vector."""
    return np.frombuffer(vector, dtype=">f4", offset=4).astype(np.float32) if isinstance(vector, bytes) else vector


def is_zero(text: str) -> bool:
    """Return whether pgvector's text is a vector of zeros, such as that of a meaningless question."""
    return not any(digit in text for digit in "123456789")


def reject_unfit(claim: Claim, documents: list[Document], vectors: dict[bytes, AnyVector]) -> dict[str, RejectedError]:
    """Remove vectors that do not fit the generation's index; return the errors by document."""
    if not documents or indexes.index_of_options(claim.generation, models.vector_schema()).storage != "halfvec":
        return {}
    needed = {text_hash for document in documents for text_hash, _ in document.chunks if text_hash in vectors}
    unfit = {text_hash: wrong for text_hash in needed if (wrong := _halfvec_problem(vectors[text_hash])) is not None}
    for text_hash in unfit:
        del vectors[text_hash]
    return {
        document.key: RejectedError(f"model {claim.generation.model.name} gave {unfit[text_hash]}")
        for document in documents
        for text_hash, _ in document.chunks
        if text_hash in unfit
    }


def _halfvec_problem(vector: AnyVector) -> str | None:
    largest = float(np.abs(floats(vector)).max())
    if largest > _LARGEST:
        return (
            f"a number of {largest:.3g} for a text, and the index, in half precision, holds at most {_LARGEST:.0f};"
            ' build a generation with another index: embed_build() with options => \'{"storage": "bit"}\''
        )
    if largest > 0.0 and float(np.float16(largest)) == 0.0:
        return "only numbers so small for a text that the index, in half precision, would round them to zero"
    return None
