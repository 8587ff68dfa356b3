"""Prepare: claimed keys to what must be done for each: nothing, removal, or these chunks."""

import json
from collections.abc import Callable, Sequence

from evergreen import db
from evergreen.catalog import options
from evergreen.core import template
from evergreen.core.document import Document, Prepared, StoredDocument
from evergreen.core.embedding import Limits
from evergreen.core.errors import ModelError, RejectedError, SourceError, SuspectError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.retry import bisect
from evergreen.core.template import Literal, Part, Placeholder
from evergreen.core.text import estimate_tokens, format_number, truncate_text
from evergreen.db import timeouts
from evergreen.db.errors import in_class, is_shutdown_or_cancel
from evergreen.db.queries import load
from evergreen.embedding.providers.registry import provider
from evergreen.prepare import chunkers, fingerprint
from evergreen.prepare.chunkers import Chunker
from evergreen.source import reader
from evergreen.source.reader import SourceRow, is_valid_key, take_until_full

SQL = load(__package__)
# What fails for every row alike: rights, missing or changed objects, resources, locks.
_NOT_THE_ROW = ("42", "25", "55", "0A", "2F")
# What one broken or huge row may bring about, and what may pass.
_MAY_PASS = ("53", "XX")
MOST_CHARACTERS = 32 * 1024 * 1024  # that templates make of the rows of a claim
_READ_CHARACTERS = 8 * 1024 * 1024  # of the rows of a claim; there are a few copies of them, and of their chunks


def prepare(pipeline: Pipeline, generation: Generation, keys: list[str]) -> Prepared:
    """Read the rows of keys and compare the hashes of their watched columns with the stored ones.

    Keys left ``unread`` are those for which there was no room: the caller puts them back.
    """
    done = Prepared()
    for row in db.rows(SQL.stored_documents, generation.id, keys):
        done.stored[row["key"]] = StoredDocument(row["src_hash"], row["chunks"])
    make = document_builder(pipeline, generation)
    room = _READ_CHARACTERS
    rendered = 0

    def read_some(some: list[str]) -> None:
        nonlocal room, rendered
        if room <= 0:
            done.unread += some
            return
        found, rest = timeouts.run_with_timeout(
            lambda: reader.with_source_locked(
                pipeline, lambda: take_until_full(reader.read(pipeline, generation, some), some, room)
            )
        )
        room -= sum(row.length for row in found.values())
        done.unread += rest
        absent = set(rest)
        for key in some:
            if key in found and rendered > MOST_CHARACTERS:
                done.unread.append(key)  # templates made more of the rows than was read
            elif key in found:
                rendered += _sort(done, found[key], make)
            elif key not in absent:
                (done.removed if key in done.stored else done.fresh).append(key)

    bisect(keys, lambda some: _attempt(pipeline, read_some, some, done))
    return done


def _sort(done: Prepared, row: SourceRow, make: Callable[[SourceRow], Document]) -> int:
    """Put a row where it belongs; return the characters that a template made of it."""
    stored = done.stored.get(row.key)
    if stored is not None and stored.src_hash == row.src_hash and row.copies == 1:
        done.fresh.append(row.key)
        done.unchanged += stored.chunks
        return 0
    try:
        document = make(row)
    except ModelError as error:
        done.failures[row.key] = error
        return 0
    done.documents.append(document)
    return sum(len(text) for _, text in document.chunks) if row.wrapper is not None else 0


def _attempt(pipeline: Pipeline, body: Callable[[list[str]], None], keys: list[str], done: Prepared) -> bool:
    """Run body over keys; return False if the owner's code fails for one of several rows."""
    try:
        body(keys)
    except db.DatabaseError as error:
        if is_shutdown_or_cancel(error):
            raise
        text = reader.unreadable_reason(pipeline, error)
        if in_class(error, *_NOT_THE_ROW):
            done.failures.update(dict.fromkeys(keys, SourceError(text)))
        elif len(keys) == 1 and in_class(error, "22") and not is_valid_key(pipeline, keys[0]):
            (done.removed if keys[0] in done.stored else done.fresh).append(keys[0])
        elif len(keys) == 1:
            done.failures[keys[0]] = (SuspectError if in_class(error, *_MAY_PASS) else RejectedError)(text)
        else:
            return False
    return True


def document_builder(pipeline: Pipeline, generation: Generation) -> Callable[[SourceRow], Document]:
    """Return the function from a source row to its document.

    It raises RejectedError for an over-long text, and for one of several rows with the same key.
    """
    split = chunkers.chunker(generation.chunker)
    hash_document = fingerprint.document(generation.model.identity, _preparation(generation), generation.chunker)
    send = text_preparer(pipeline, generation)

    def make(row: SourceRow) -> Document:
        if row.copies > 1:
            raise RejectedError(
                f"{pipeline.source_name} has {format_number(row.copies)} rows with key {row.key}; the columns"
                f" {', '.join(name for _, name, _ in pipeline.key)} must differ in each pair of rows"
            )
        text = row.text if row.text is not None and not row.text.isspace() else ""
        chunks = tuple(map(send, texts(split, text, row.wrapper)))
        return Document(row.key, row.src_hash, hash_document(text, *(row.wrapper or ())), chunks)

    return make


def text_preparer(pipeline: Pipeline, generation: Generation) -> Callable[[str], tuple[bytes, str]]:
    """Return the function from a text to its hash and what is sent of it; it raises RejectedError for one too long."""
    identity = generation.model.identity
    limits = provider(generation.model.provider).limits(generation.model)
    truncate = options.effective(pipeline.options, "on_too_long") == "truncate"
    hash_chunk, hash_beginning = fingerprint.chunk(identity), fingerprint.chunk(identity, may_be_cut=True)

    def send(text: str) -> tuple[bytes, str]:
        """A token is a character at least, so only what has more characters may be cut by the server.

        A chunker may make characters that the database's encoding does not have: what is stored is what is sent.
        """
        fitted = _fitted(db.server.values([text])[0], limits, truncate=truncate)
        may_be_cut = truncate and limits.input_tokens is not None and len(fitted) > limits.input_tokens
        return (hash_beginning if may_be_cut else hash_chunk)(fitted), fitted

    return send


def _preparation(generation: Generation) -> str:
    """How the text is made, without the columns' names: a rename makes nothing stale."""
    columns = ["columns", len(generation.columns)] if generation.columns is not None else []
    if generation.template is None:
        return json.dumps(columns)
    parts = template.parse(generation.template, framed=generation.columns is not None)
    order = template.columns(parts)

    def written(part: Part) -> str | int | None:
        if isinstance(part, Literal):
            return part.text
        return order.index(part.column) if isinstance(part, Placeholder) else None

    return json.dumps([*columns, "template", *map(written, parts)])


def _fitted(text: str, limits: Limits, *, truncate: bool) -> str:
    if limits.input_tokens is None or len(text) <= limits.input_tokens or estimate_tokens(text) <= limits.input_tokens:
        return text
    if truncate:
        return truncate_text(text, limits.input_tokens)
    raise RejectedError(
        f"a text of {len(text)} characters (about {estimate_tokens(text)} tokens) is longer than the model's"
        f" {limits.input_tokens} tokens;"
        ' use a chunker, or embed_alter(…, \'{"on_too_long": "truncate"}\')'
    )


def texts(split: Chunker, text: str | None, frame: Sequence[str] | None) -> list[str]:
    """Cut a text and put each chunk into its frame; a text that is blank has no chunk.

    Raises RejectedError where the frame, which each chunk repeats, would fill the memory.
    """
    chunks = split(text) if text and not text.isspace() else []
    if frame is None:
        return chunks
    length = sum(map(len, frame)) * len(chunks) + (len(frame) - 1) * sum(map(len, chunks))
    if length > max(MOST_CHARACTERS, 2 * len(text or "")):
        raise RejectedError(
            f"the template would make {format_number(length)} characters of the {format_number(len(chunks))} chunks"
            f" of a text of {format_number(len(text or ''))}: each repeats all that stands around $chunk"
        )
    return [chunk.join(frame) for chunk in chunks]
