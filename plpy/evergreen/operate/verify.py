"""embed_verify: recompute every fingerprint and compare it with what is stored."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import pipelines
from evergreen.core.document import Document
from evergreen.core.errors import ModelError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.retry import bisect
from evergreen.core.text import pluralize
from evergreen.db.errors import in_class
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.prepare import documents, fingerprint
from evergreen.prepare.fingerprint import Hasher
from evergreen.queue import backfill, change_log
from evergreen.source import expressions as ex
from evergreen.source import reader, table
from evergreen.source.reader import SourceRow
from evergreen.storage import repair as chunk_repair

SQL = load(__package__)
STATES = ("fresh", "stale", "missing", "orphan", "mixed")
_SLICE = 500


@sql_entry
def embed_verify(pipeline: str | None, repair: bool | None) -> list[tuple[str, int]]:
    """Count source rows (and orphaned documents) by state; raises 42704, 42501, 55000."""
    role = caller()

    def verify() -> list[tuple[str, int]]:
        return _verify(ddl_sync.require_readable_unrepaired(pipelines.owned(pipeline, role)), repair=bool(repair))

    return as_extension_owner(verify)


def _verify(pipeline: Pipeline, *, repair: bool) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    busy = 0
    for generation in pipeline.generations[:1]:
        for keys in _slices(pipeline, generation):
            found = _look(pipeline, generation, keys)
            counts.update(found.states.values())
            if repair:
                busy += _repair(pipeline, generation, found)
            db.check_interrupts()
        orphaned = chunk_repair.orphaned_keys(generation)
        counts["orphan"] += len(orphaned)
        if repair and orphaned:
            chunk_repair.delete_orphaned(generation)
    if busy:
        db.warning(
            f"{pluralize(busy, 'row')} that another session is writing may not be repaired",
            hint=f"SELECT embed_verify({db.literal(pipeline.name)}, repair => true) when its transaction is over.",
        )
    return [(state, counts[state]) for state in STATES]


def _slices(pipeline: Pipeline, generation: Generation) -> Iterator[list[str]]:
    """Yield every key of the source, then every key that only the store has."""
    after: str | None = None
    while keys := _scan(pipeline, after):
        yield keys
        after = keys[-1]
    after = None
    while keys := backfill.stored_keys(generation.id, after, _SLICE):
        present = _read(pipeline, generation, keys)
        if orphans := [key for key in keys if key not in present]:
            yield orphans
        after = keys[-1]


def _scan(pipeline: Pipeline, after: str | None) -> list[str]:
    return reader.with_source_locked(pipeline, lambda: reader.scan(pipeline, after, _SLICE))


def _read(pipeline: Pipeline, generation: Generation, keys: list[str]) -> dict[str, SourceRow]:
    """Read rows; a stored key that is no key any more, as after a value of an enum was renamed, has none."""
    found: dict[str, SourceRow] = {}

    def attempt(some: list[str]) -> bool:
        try:
            found.update(
                reader.with_source_locked(
                    pipeline, lambda: {row.key: row for row in reader.read(pipeline, generation, some)}
                )
            )
        except db.DatabaseError as error:
            if not in_class(error, "22"):
                raise
            return False
        return True

    bisect(keys, attempt)
    return found


@dataclass
class _Found:
    """The state of some keys, and the chunks among theirs that are damaged, as (document, id)."""

    states: dict[str, str] = field(default_factory=dict[str, str])
    damaged: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


def _look(pipeline: Pipeline, generation: Generation, keys: list[str]) -> _Found:
    make = documents.document_builder(pipeline, generation)
    rows = _read(pipeline, generation, keys)
    stored = {row["key"]: row for row in db.rows(SQL.verified_documents, generation.id, keys)}
    chunks = _chunks(pipeline, generation, [row["id"] for row in stored.values()])
    whole, beginning = (fingerprint.chunk(generation.model.identity, may_be_cut=cut) for cut in (False, True))
    found = _Found()
    for key in keys:
        document = stored.get(key)
        if key not in rows:
            found.states[key] = "orphan"
        elif document is None:
            found.states[key] = "missing"
        else:
            own = chunks[document["id"]]
            damaged = [
                r
                for r in own
                if not r["key_is_right"]
                or (r["chunk_hash"] and r["chunk_hash"] not in (whole(r["chunk"]), beginning(r["chunk"])))
            ]
            found.damaged += [(row["document"], row["id"]) for row in damaged]
            found.states[key] = "stale" if damaged else _state(generation, rows[key], make, document, own, whole)
    return found


def _chunks(pipeline: Pipeline, generation: Generation, ids: list[int]) -> defaultdict[int, list[db.Row]]:
    source = table.of_pipeline(pipeline)
    assert source is not None  # it has just been read
    stored_key = ex.key("g", [replace(c, name=f"k{i}") for i, c in enumerate(source.key, 1)])
    found: defaultdict[int, list[db.Row]] = defaultdict(list)
    for row in db.rows(SQL.verified_chunks.with_identifiers(table=generation.table, key=stored_key), ids):
        found[row["document"]].append(row)
    return found


def _state(
    generation: Generation,
    row: SourceRow,
    make: Callable[[SourceRow], Document],
    stored: db.Row,
    chunks: list[db.Row],
    whole: Hasher,
) -> str:
    try:
        wanted = make(row)
    except ModelError:  # too long for the model: whatever is stored is of an older text
        return "stale"
    if any(
        chunk["model"] != generation.model.name or chunk["fingerprint"] != stored["fingerprint"] for chunk in chunks
    ):
        return "mixed"
    same = (
        stored["fingerprint"] == wanted.fingerprint
        and all(proof["src_hash"] == wanted.src_hash for proof in [stored, *chunks])
        and [chunk["chunk_no"] for chunk in chunks] == [*range(len(wanted.chunks))]
        # A text that was embedded whole is as good where it might have been cut.
        and all(c["chunk_hash"] in (h, whole(text)) for c, (h, text) in zip(chunks, wanted.chunks, strict=True))
    )
    return "fresh" if same else "stale"


def _repair(pipeline: Pipeline, generation: Generation, found: _Found) -> int:
    """Queue rows that are not fresh and mark their documents as stale; return how many other sessions are writing."""
    wrong = [key for key, state in found.states.items() if state != "fresh"]
    chunk_repair.delete_damaged(generation, found.damaged)
    if wrong:
        recorded = sum(found.states[key] != "missing" for key in wrong)
        busy = recorded - chunk_repair.mark_stale(generation, wrong)
        change_log.log_keys(pipeline.id, wrong)
        return busy
    return 0
