"""embed_verify: recompute every fingerprint and compare it with what is stored."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from evergreen import db
from evergreen.catalog import access
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.detect import follow
from evergreen.errors import ModelError, UserError
from evergreen.gate import caller, elevated, entry
from evergreen.prepare import documents, read
from evergreen.prepare.documents import Document
from evergreen.prepare.read import SourceRow
from evergreen.queries import load
from evergreen.schedule import cursors

SQL = load(__file__)

STATES = ("fresh", "stale", "missing", "orphan", "mixed")
_SLICE = 500


@entry
def embed_verify(pipeline: str | None, repair: bool | None) -> list[tuple[str, int]]:
    """Count source rows (and orphaned documents) by state; raises 42704, 42501, 55000."""
    role = caller()

    def verify() -> list[tuple[str, int]]:
        found = follow.check(access.owned(pipeline, role))
        if found is None:
            raise UserError(
                f'the source of pipeline "{pipeline}" cannot be read',
                "55000",
                hint="SELECT last_error FROM embed_status;",
            )
        return _verify(found, repair=bool(repair))

    return elevated(verify)


def _verify(pipeline: Pipeline, *, repair: bool) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for generation in pipeline.generations[:1]:
        for keys in _slices(pipeline, generation):
            states = _states(pipeline, generation, keys)
            counts.update(states.values())
            wrong = [key for key, state in states.items() if state != "fresh"]
            if repair and wrong:
                db.run(SQL.spoil, generation.id, wrong)
                db.run(cursors.SQL.log, pipeline.id, wrong)
            db.check_interrupts()
        strays = [row["key"] for row in db.rows(SQL.strays.on(table=generation.table), generation.id)]
        counts["orphan"] += len(strays)
        if repair and strays:
            db.run(SQL.drop_strays.on(table=generation.table), generation.id)
    return [(state, counts[state]) for state in STATES]


def _slices(pipeline: Pipeline, generation: Generation) -> Iterator[list[str]]:
    """Yield every key of the source, then every key that only the store has."""
    after: str | None = None
    while keys := _scan(pipeline, after):
        yield keys
        after = keys[-1]
    after = None
    while keys := [row["key"] for row in db.rows(cursors.SQL.stored_keys, generation.id, after, _SLICE)]:
        present = _read(generation, keys)
        if orphans := [key for key in keys if key not in present]:
            yield orphans
        after = keys[-1]


def _scan(pipeline: Pipeline, after: str | None) -> list[str]:
    return db.released(lambda: read.scan(pipeline, after, _SLICE))


def _read(generation: Generation, keys: list[str]) -> dict[str, SourceRow]:
    """Read rows; a stored key that is no key any more, as after a value of an enum was renamed, has none."""
    try:
        return db.released(lambda: {row.key: row for row in read.read(generation, keys)})
    except db.DatabaseError as error:
        if not db.sqlstate(error).startswith("22"):
            raise
        middle = len(keys) // 2
        return {**_read(generation, keys[:middle]), **_read(generation, keys[middle:])} if middle else {}


def _states(pipeline: Pipeline, generation: Generation, keys: list[str]) -> dict[str, str]:
    make = documents.maker(pipeline, generation)
    rows = _read(generation, keys)
    stored = {row["key"]: row for row in db.rows(SQL.documents, generation.id, keys)}
    chunks: defaultdict[int, list[db.Row]] = defaultdict(list)
    for row in db.rows(SQL.chunks.on(table=generation.table), [row["id"] for row in stored.values()]):
        chunks[row["document"]].append(row)
    states: dict[str, str] = {}
    for key in keys:
        document = stored.get(key)
        if key not in rows:
            states[key] = "orphan"
        elif document is None:
            states[key] = "missing"
        else:
            try:
                wanted = make(rows[key])
            except ModelError:  # too long for the model: whatever is stored is of an older text
                states[key] = "stale"
            else:
                states[key] = _compare(generation, wanted, document, chunks[document["id"]])
    return states


def _compare(generation: Generation, wanted: Document, stored: db.Row, chunks: list[db.Row]) -> str:
    if any(row["model"] != generation.model.name or row["fingerprint"] != stored["fingerprint"] for row in chunks):
        return "mixed"
    same = (
        stored["fingerprint"] == wanted.fingerprint
        and stored["src_hash"] == wanted.src_hash
        and [(row["chunk_no"], row["chunk_hash"]) for row in chunks]
        == [(i, h) for i, (h, _) in enumerate(wanted.chunks)]
    )
    return "fresh" if same else "stale"
