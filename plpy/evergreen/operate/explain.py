"""embed_explain: one row's whole story, in lines that a person reads."""

from collections.abc import Iterator

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import pipelines
from evergreen.core.document import Document
from evergreen.core.errors import ModelError
from evergreen.core.job import Lane
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import estimate_tokens, format_number, pluralize
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.prepare import documents
from evergreen.source import reader
from evergreen.storage import vector_cache

SQL = load(__package__)
_SHOWN = 80  # characters of a chunk
_CHUNKS = 10
_LONGEST = 500  # characters of an error, which may quote a text


@sql_entry
def embed_explain(pipeline: str | None, key: str | None) -> str:
    """Return the story; raises 42704, 42501, 22023, 22P02."""
    role = caller()

    def explain() -> str:
        found = pipelines.owned(pipeline, role)
        canonical = reader.canonical(found, key if key is not None else "null")
        return "\n".join(_lines(found, canonical, role))

    return as_extension_owner(explain)


def _lines(pipeline: Pipeline, key: str, role: str) -> Iterator[str]:
    """Yield the diagnosis, of the active generation and of one that is being built, and the chunks at the end."""
    yield f"pipeline {pipeline.name}, key {key}, model {pipeline.active.model.name}, capture {pipeline.capture}"
    if pipeline.state != "active":
        yield f"the pipeline is {pipeline.state}: SELECT embed_resume({db.literal(pipeline.name)})"
    readable = ddl_sync.follow_ddl(pipeline)
    if readable is None:
        yield "the source cannot be read: SELECT last_error FROM embed_status"
        return
    log = db.one(SQL.explained_changes, pipeline.id, key)
    if log is not None and log["changes"]:
        causes = f" of {log['causes']}" if log["causes"] else ""
        yield f"change log: {pluralize(log['changes'], 'change')}{causes} since {log['since']} not processed yet"
    for table in db.rows(SQL.waiting_links, pipeline.id) if pipeline.links else ():
        yield f"changes of {table['name']} since {table['since']} lead to rows that are not all queued yet"
    chunks: list[str] = []
    for generation in readable.generations:
        if generation is readable.active:
            yield from _generation(readable, generation, key, chunks, role)
        elif generation.state == "building":
            yield f"generation {generation.id}, which is being built, model {generation.model.name}:"
            yield from (f"  {line}" for line in _generation(readable, generation, key, chunks, role))
    yield from chunks


def _generation(pipeline: Pipeline, generation: Generation, key: str, chunks: list[str], role: str) -> Iterator[str]:
    yield from _queue(generation, key)
    stored = db.one(SQL.explained_document, generation.id, key)
    yield _stored(stored)
    rows = reader.with_source_locked(pipeline, lambda: list(reader.read(pipeline, generation, [key])))
    if not rows:
        yield "source: no such row" + ("; what is stored is an orphan, a drain removes it" if stored else "")
        return
    try:
        document = documents.document_builder(pipeline, generation)(rows[0])
    except ModelError as error:
        yield f"source: {_short(str(error))}"
        return
    tokens = sum(estimate_tokens(text) for _, text in document.chunks)
    yield (
        f"source: {pluralize(len(document.chunks), 'chunk')}, about {pluralize(tokens, 'token')},"
        f" fingerprint {document.fingerprint.hex()[:16]}"
    )
    yield _verdict(generation, key, document, stored, role)
    chunks.extend(_listed(generation, document))


def _queue(generation: Generation, key: str) -> Iterator[str]:
    job = db.one(SQL.explained_job, generation.id, key)
    if job is None:
        yield "queue: nothing waits"
    else:
        lane = Lane(job["lane"]).label
        state = "claimed by a worker" if job["claimed"] else _waits(job) if job["waits"] else "ready"
        failed = pluralize(job["attempts"], "failed attempt")
        cause = f" by a change of {job['cause']}" if job["cause"] else ""
        yield f"queue: {state}, {lane} lane, changed at {job['changed_at']}{cause}, {failed}"
        if job["last_error"]:
            yield f"last error: {_short(job['last_error'])}"
    failure = db.one(SQL.explained_failure, generation.id, key)
    if failure is not None:
        how = f"{failure['class']}, {pluralize(failure['attempts'], 'attempt')}"
        yield f"given up at {failure['last_at']} ({how}): {_short(failure['message'])}"


def _waits(job: db.Row) -> str:
    if job["batch"] is not None:
        return f"in batch {job['batch']} at the provider, until {job['ready_at']} at the longest"
    return f"waits until {job['ready_at']}"


def _stored(stored: db.Row | None) -> str:
    if stored is None:
        return "stored: nothing"
    return (
        f"stored: {pluralize(stored['chunks'], 'chunk')}, changed at {stored['changed_at']}, embedded at"
        f" {stored['embedded_at']}, fingerprint {stored['fingerprint'].hex()[:16]}"
    )


def _why_missing(generation: Generation, key: str) -> str:
    awaits_backfill = db.value(SQL.awaits_backfill, generation.id, key)
    return "the backfill has not reached this row" if awaits_backfill else "no row is stored"


def _verdict(generation: Generation, key: str, document: Document, stored: db.Row | None, role: str) -> str:
    """Return whether the model would be called, and why, as far as the role's own pipelines decide it."""
    if stored is not None and stored["src_hash"] == document.src_hash:
        return "the model would not be called: the embedding is fresh"
    if not document.chunks:
        return "the model would not be called: there is no text"
    known = vector_cache.find_vectors(generation, [text_key for text_key, _ in document.chunks], role).own
    missing = sum(1 for text_key, _ in document.chunks if text_key not in known)
    why = _why_missing(generation, key) if stored is None else "the watched columns changed"
    if not missing:
        return f"the model would not be called: {why}, but every text was embedded before"
    return (
        f"the model would be called for {format_number(missing)} of {pluralize(len(document.chunks), 'chunk')}: {why}"
    )


def _listed(generation: Generation, document: Document) -> Iterator[str]:
    """Yield the first chunks, each cut to a line, and how many more there are."""
    if document.chunks:
        yield f"chunks of generation {generation.id}:"
    for place, (_, text) in enumerate(document.chunks[:_CHUNKS]):
        size = f"{pluralize(len(text), 'character')}, about {pluralize(estimate_tokens(text), 'token')}"
        yield f"  {place}: {size}: {_short(text, _SHOWN)}"
    if len(document.chunks) > _CHUNKS:
        yield f"  and {format_number(len(document.chunks) - _CHUNKS)} more"


def _short(text: str, most: int = _LONGEST) -> str:
    """Return the beginning of a text, on one line."""
    return " ".join(text[:most].split()) + ("..." if len(text) > most else "")
