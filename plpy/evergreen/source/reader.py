"""Read source rows through the functions that belong to the source's owner."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

from evergreen import db
from evergreen.catalog import json_objects
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import session_guard, timeouts
from evergreen.db.errors import in_class, is_undefined_table
from evergreen.db.queries import Query, load

SQL = load(__package__)
T = TypeVar("T")
_LOCK_ATTEMPTS = 3  # of a source that is being renamed


@frozen
class SourceRow:
    """A row of the source; ``text`` is None where ``only_if`` excludes it.

    ``wrapper``: what a template puts before, between and after its chunks; None without such a template.
    """

    key: str  # canonical jsonb, as text
    src_hash: bytes
    text: str | None
    wrapper: tuple[str, ...] | None = None
    copies: int = 1  # rows with this key; a view may have several

    @property
    def length(self) -> int:
        """Characters that were read."""
        return len(self.text or "") + sum(map(len, self.wrapper or ()))


def runs_as_owner(pipeline: Pipeline) -> bool:
    """Return whether the functions that read the source run as its owner."""
    return bool(db.value(SQL.runs_as_owner, pipeline.id))


def with_source_locked(pipeline: Pipeline, body: Callable[[], T]) -> T:
    """Run a body that calls the functions below with the source locked under its name, and release all locks.

    Those functions name the source. If the table is renamed while one waits for its lock, and another table takes the
    name, that table's rows would be taken for the source's. Raises DatabaseError when the source cannot be locked.
    """

    def step() -> T:
        _lock_source(pipeline)
        if not runs_as_owner(pipeline):
            raise db.lost(f'functions of pipeline "{pipeline.name}" were altered; embed_drain() restores them')
        return body()

    return session_guard.contained(lambda: db.in_discarded_subtransaction(step))


def _lock_source(pipeline: Pipeline) -> None:
    for _ in range(_LOCK_ATTEMPTS):
        found = db.one(SQL.current_name, pipeline.id)
        if found is None:
            continue
        lock = SQL.lock_materialized_view if found["is_materialized"] else SQL.lock_source
        if _locked(lock.with_identifiers(source=found["name"])) and db.value(
            SQL.is_bound_to, pipeline.id, found["name"]
        ):
            return
    raise db.unavailable("it is being renamed")


def _locked(lock: Query) -> bool:
    """Lock a table; return False if it was renamed during the wait."""
    try:
        db.atomically(lambda: db.ddl(lock))
    except db.DatabaseError as error:
        if not is_undefined_table(error):
            raise
        return False
    return True


def unreadable_reason(pipeline: Pipeline, error: db.DatabaseError) -> str:
    """Return why the source cannot be read, and a remedy."""
    reported = db.plain(error)
    if reported.sqlstate != "42501":
        return f"the source cannot be read: {reported.message}"
    owner = db.value(SQL.source_owner, pipeline.id)
    remedy = reported.hint or "GRANT the missing privilege, or change the table's owner"
    return f'the source cannot be read by its owner "{owner}", whose rights apply: {reported.message}; {remedy}'


def read(pipeline: Pipeline, generation: Generation, keys: Sequence[str]) -> Iterator[SourceRow]:
    """Yield the rows that exist among ``keys``; raises DatabaseError as the owner's code does."""
    copies = "r.copies" if pipeline.definition is not None else "1::pg_catalog.int8"
    query = SQL.read_rows.with_identifiers(reader=f"embed_store.reader_{generation.id}", copies=copies)
    for row in db.stream(query, "[" + ",".join(keys) + "]", length=_length):
        wrapper = tuple(row["wrapper"]) if row["wrapper"] is not None else None
        yield SourceRow(keys[int(row["ord"]) - 1], row["src_hash"], row["content"], wrapper, row["copies"])


def _length(row: db.Row) -> int:
    return len(row["content"] or "")


def scan(pipeline: Pipeline, after: str | None, limit: int) -> list[str]:
    """Return the next keys of the source after a key, in key order."""
    return [
        row["key"]
        for row in db.rows(SQL.scan_keys.with_identifiers(scan=f"embed_store.scan_{pipeline.id}"), after, limit)
    ]


def canonical(pipeline: Pipeline, key: str) -> str:
    """Bring a user's key (jsonb as text; a scalar stands for a one-column key) to its stored form.

    Raises UserError 22023 when it has the wrong number of columns and 22P02 when a value is not of its column's type.
    """
    return canonical_all(pipeline, [key])[0]


def canonical_all(pipeline: Pipeline, keys: Sequence[str]) -> list[str]:
    """Bring keys to their stored form, in one statement; raises as ``canonical`` does."""
    wrapped = [_array(pipeline, key) for key in keys]
    query = SQL.canonical_keys.with_identifiers(canonical=f"embed_store.key_{pipeline.id}")
    try:
        # Undone after: a deferred trigger or a cursor of the owner's code must not run at commit, as us.
        return [str(row["key"]) for row in with_source_locked(pipeline, lambda: db.rows(query, wrapped))]
    except db.DatabaseError as error:
        if not in_class(error, "22", "23"):  # errors that the key itself causes
            raise
        if len(keys) > 1:
            return [canonical(pipeline, key) for key in keys]  # to name the wrong one
        raise UserError(
            f'{keys[0]} is not a key of pipeline "{pipeline.name}": {db.message(error)}',
            "22P02",
            hint=f"Its key is ({', '.join(f'{n} {t}' for _, n, t in pipeline.key)}).",
        ) from error


def _array(pipeline: Pipeline, key: str) -> str:
    given = json_objects.loads(key)
    values = cast("list[object]", given) if isinstance(given, list) else [given]
    names = [name for _, name, _ in pipeline.key]
    if len(values) != len(names) or any(value is None for value in values):
        raise UserError(
            f'{key} is not a key of pipeline "{pipeline.name}"',
            hint=f"Its key is ({', '.join(names)}): pass jsonb_build_array({', '.join(names)}), without NULLs.",
        )
    return key if isinstance(given, list) else f"[{key}]"


def take_until_full(rows: Iterable[SourceRow], keys: list[str], limit: int) -> tuple[dict[str, SourceRow], list[str]]:
    """Take rows up to ``limit`` characters, at least one; also return the keys that were not reached."""
    found: dict[str, SourceRow] = {}
    for row in rows:
        if limit <= 0 and found:
            return found, [key for key in keys if key not in found]
        found[row.key] = row
        limit -= row.length
    return found, []


def is_valid_key(pipeline: Pipeline, key: str) -> bool:
    """Return whether a stored key is still valid; after a renamed enum value it is not, and no row has it."""
    try:
        timeouts.run_with_timeout(lambda: canonical(pipeline, key))
    except UserError:
        return False
    return True
