"""embed_explain: one row's whole story, in lines that a person reads."""

from collections.abc import Iterator

from evergreen import db
from evergreen.apply import reuse
from evergreen.catalog import access
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.detect import follow
from evergreen.errors import ModelError
from evergreen.gate import caller, elevated, entry
from evergreen.model.tokens import estimate
from evergreen.prepare import documents, read
from evergreen.prepare.documents import Document
from evergreen.queries import load

SQL = load(__file__)

_SHOWN = 80


@entry
def embed_explain(pipeline: str | None, key: str | None) -> str:
    """Return the story; raises 42704, 42501, 22023, 22P02."""
    role = caller()

    def explain() -> str:
        found = access.owned(pipeline, role)
        canonical = read.canonical(found, key if key is not None else "null")
        return "\n".join(_lines(found, canonical))

    return elevated(explain)


def _lines(pipeline: Pipeline, key: str) -> Iterator[str]:
    generation = pipeline.active
    yield f"pipeline {pipeline.name}, key {key}, model {generation.model.name}, capture {pipeline.capture}"
    if pipeline.state != "active":
        yield f"the pipeline is {pipeline.state}: SELECT embed_resume('{pipeline.name}')"
    readable = follow.check(pipeline)
    if readable is None:
        yield "the source cannot be read: SELECT last_error FROM embed_status"
        return
    yield from _queue(readable, key)
    stored = db.one(SQL.document, generation.id, key)
    yield from _stored(stored)
    rows = read.held(readable, lambda: list(read.read(readable.active, [key])))
    if not rows:
        yield "source: no such row" + ("; what is stored is an orphan, a drain removes it" if stored else "")
        return
    try:
        document = documents.maker(readable, readable.active)(rows[0])
    except ModelError as error:
        yield f"source: {error}"
        return
    yield from _prepared(readable.active, document, stored)


def _queue(pipeline: Pipeline, key: str) -> Iterator[str]:
    log = db.one(SQL.changes, pipeline.id, key)
    if log is not None and log["changes"]:
        yield f"change log: {log['changes']} changes since {log['since']} wait for a worker"
    job = db.one(SQL.job, pipeline.active.id, key)
    if job is None:
        yield "queue: nothing waits"
    else:
        lane = "live" if job["lane"] == 0 else "backfill"
        state = (
            "claimed by a worker" if job["claimed"] else f"waits until {job['ready_at']}" if job["waits"] else "ready"
        )
        yield f"queue: {state}, {lane} lane, changed at {job['changed_at']}, {job['attempts']} failed attempts"
        if job["last_error"]:
            yield f"last error: {job['last_error']}"
    failure = db.one(SQL.failure, pipeline.active.id, key)
    if failure is not None:
        how = f"{failure['class']}, {failure['attempts']} attempts"
        yield f"given up at {failure['last_at']} ({how}): {failure['message']}"


def _stored(stored: db.Row | None) -> Iterator[str]:
    if stored is None:
        yield "stored: nothing"
    else:
        yield (
            f"stored: {stored['chunks']} chunks, changed at {stored['changed_at']}, embedded at {stored['embedded_at']}"
            f", fingerprint {stored['fingerprint'].hex()[:16]}"
        )


def _prepared(generation: Generation, document: Document, stored: db.Row | None) -> Iterator[str]:
    yield f"source: {len(document.chunks)} chunks, fingerprint {document.fingerprint.hex()[:16]}"
    for number, (_, text) in enumerate(document.chunks):
        shown = " ".join(text[:_SHOWN].split())
        dots = "..." if len(text) > _SHOWN else ""
        yield f"  {number}: {len(text)} characters, about {estimate(text)} tokens: {shown}{dots}"
    if stored is not None and stored["src_hash"] == document.src_hash:
        yield "the model would not be called: the embedding is fresh"
    elif not document.chunks:
        yield "the model would not be called: there is no text"
    else:
        known = reuse.known(generation, [key for key, _ in document.chunks])
        missing = sum(1 for key, _ in document.chunks if key not in known)
        why = "no row is stored" if stored is None else "the watched columns changed"
        if missing:
            yield f"the model would be called for {missing} of {len(document.chunks)} chunks: {why}"
        else:
            yield f"the model would not be called: {why}, but every text was embedded before"
