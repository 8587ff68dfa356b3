"""Builds vector indexes again that edits have bloated.

VACUUM makes room in an HNSW index, but never returns it, and takes as long as to insert every vector again: a table
that is edited as a whole grows faster than it is vacuumed. A new index is built in a fraction of that time. Searches
use the old one until the new one takes its place.
"""

from functools import partial

from evergreen import db
from evergreen.catalog.maintenance import Problem, Task
from evergreen.core.pipeline import Generation
from evergreen.db import event_log
from evergreen.db.locks import set_lock_timeout
from evergreen.db.queries import load
from evergreen.generations import indexing
from evergreen.storage import indexes

SQL = load(__package__)
KINDS = ("bloated index",)
_FACTOR = 1.75  # of its size when new; one edit of every chunk doubles it
_LEAST = 1024 * 1024  # bytes
# Longer than deadlock_timeout, after which a lock request cancels an autovacuum, for which the old index is slow.
_OVER_VACUUM = "1200ms"


def due() -> list[Task]:
    """Return a task for each index that may be bloated. Takes no lock on any generation."""
    return [
        Task(KINDS[0], partial(_renew, row), row["pipeline"], row["id"], yields_to=f"embed_store.g{row['id']}")
        for row in db.rows(SQL.with_index)
    ]


def _renew(row: db.Row) -> Problem | None:
    """Take the next step: build a new index, or, when there is one, drop the old one."""
    for _, generation in indexing.generations_of(row):
        new = indexes.new_name(generation)
        if indexes.exists(new):
            _wait_for_vacuum(generation)
            return _replace(generation, new)
        if db.value(SQL.is_bloated, generation.id, _FACTOR, _LEAST):
            _wait_for_vacuum(generation)
            return indexing.build(new, indexing.vectors(generation), generation)
    return None


def _replace(generation: Generation, new: str) -> None:
    name = indexes.name(generation)
    db.ddl(SQL.drop_index.with_identifiers(name=name))
    db.ddl(SQL.rename_index.with_identifiers(new=new, name=name))
    event_log.info("index_rebuilt", generation=generation.id)


def _wait_for_vacuum(generation: Generation) -> None:
    if db.value(SQL.is_vacuum_running, generation.table):
        set_lock_timeout(_OVER_VACUUM)
