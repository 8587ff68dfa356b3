"""What must be true when all is over: one vector of the right text for each row, and nothing else left anywhere."""

from dataclasses import dataclass
from typing import Any

import psycopg

from tests.fixtures.external_compute import let_leases_run_out
from tests.fixtures.pipelines.documents import verified
from tests.fixtures.pipelines.endpoints import hurry, let_time_pass
from tests.fixtures.stress import left, locks
from tests.fixtures.wal import work_until
from tests.scenarios.chaos.sources import KEYS, PIPELINES, Pipeline, expected, is_of, shown

Connection = psycopg.Connection[Any]

_MOST_DRAINS = 8
_GENERATIONS = "SELECT g.id FROM embed.generation g JOIN embed.pipeline p ON p.id = g.pipeline WHERE p.name = %s"


@dataclass(frozen=True)
class Settled:
    """How it came to rest."""

    drains: int
    dead_letters: int


def settle(db: Connection) -> Settled:
    """Let time pass, try again what was given up, and drain until a drain leaves nothing."""
    let_time_pass(db)
    let_leases_run_out(db)  # of compute outside that was never heard of again
    dead = db.execute("SELECT count(*) FROM embed.failure").fetchall()[0][0]
    for pipeline in PIPELINES:
        db.execute("SELECT embed_resume(%s)", (pipeline.name,))
        db.execute("SELECT embed_retry(%s)", (pipeline.name,))
    for pipeline in PIPELINES:
        if pipeline.is_read:
            work_until(db, pipeline.name, "cdc")
    for number in range(1, _MOST_DRAINS + 1):
        db.execute("SELECT embed_drain(max_rows => 100000)")
        if not left(db):
            return Settled(number, dead)
        hurry(db)
    raise AssertionError(f"after {_MOST_DRAINS} drains there is still {left(db)}: {_sample(db)}")


def _sample(db: Connection) -> list[Any]:
    return [
        db.execute(f"SELECT to_jsonb(t) FROM embed.{table} t LIMIT 3").fetchall() for table in left(db)
    ] + db.execute("SELECT pipeline, state, pending, last_error FROM embed_status").fetchall()


def faults(db: Connection) -> list[str]:
    """Everything that is not as it must be."""
    found = [
        fault
        for pipeline in PIPELINES
        for fault in [*_of_rows(db, pipeline), *_of_generations(db, pipeline), *_of_proof(db, pipeline)]
    ]
    if held := locks(db):
        found.append(f"advisory locks are held: {held}")
    return found


def _of_rows(db: Connection, pipeline: Pipeline) -> list[str]:
    """Compare view and source, without any help of the extension."""
    texts, rows = expected(db, pipeline), shown(db, pipeline)
    found = [f"{pipeline.name} {key} is missing" for key in texts.keys() - rows.keys()]
    for key, row in rows.items():
        if not is_of(pipeline, row, texts.get(key)):
            found.append(f"{pipeline.name} {key} shows {row.chunks}, not {texts.get(key)}")
        if any(row.is_stale):
            found.append(f"{pipeline.name} {key} is called stale")
    return found


def _of_generations(db: Connection, pipeline: Pipeline) -> list[str]:
    """Look for what the view hides: vectors and documents of rows that are gone, and other generations."""
    numbers = db.execute(_GENERATIONS, (pipeline.name,)).fetchall()
    return [fault for (number,) in numbers for fault in _of_store(db, pipeline, number)]


def _of_store(db: Connection, pipeline: Pipeline, generation: int) -> list[str]:
    key = f"jsonb_build_array({', '.join(KEYS[pipeline.source])})"
    texts = expected(db, pipeline)
    count = {
        "vectors": _count(db, f"embed_store.g{generation}"),
        "rows": _count(db, pipeline.source),
        "documents": _count(db, f"embed.document WHERE generation = {generation}"),
        "documents of no row": _count(
            db, f"embed.document WHERE generation = {generation} AND key NOT IN (SELECT {key} FROM {pipeline.source})"
        ),
    }
    found = []
    if (
        sum(map(len, texts.values())) != count["vectors"]
        or count["rows"] != count["documents"]
        or count["documents of no row"]
    ):
        found.append(f"{pipeline.name}, generation {generation}, stores {count} of {len(texts)} texts")
    query = f"SELECT key, array_agg(chunk ORDER BY chunk_no) FROM embed_store.g{generation} GROUP BY key"
    if {tuple(key): chunks for key, chunks in db.execute(query)} != texts:
        found.append(f"{pipeline.name}, generation {generation}, stores other texts than there are")
    return found


def _of_proof(db: Connection, pipeline: Pipeline) -> list[str]:
    """Ask embed_verify."""
    said = verified(db, pipeline.name)
    if said == {"fresh": _count(db, pipeline.source), "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}:
        return []
    return [f"embed_verify says of {pipeline.name}: {said}"]


def _count(db: Connection, what: str) -> int:
    return db.execute(f"SELECT count(*) FROM {what}").fetchall()[0][0]
