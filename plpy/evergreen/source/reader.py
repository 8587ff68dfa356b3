"""Read source rows through the functions that belong to the source's owner."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from evergreen import db
from evergreen.catalog import json_objects
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db import session_guard, timeouts
from evergreen.db.errors import in_class, is_undefined_table
from evergreen.db.queries import load

SQL = load(__package__)
T = TypeVar("T")
_LOOKS = 3  # at a source that is being renamed


@dataclass(frozen=True)
class SourceRow:
    """A row as the source has it: ``text`` is None where ``only_if`` leaves it out.

    ``frame``: what a template puts before, between and after the places of the chunk; None where it has none.
    """

    key: str  # canonical jsonb, as text
    src_hash: bytes
    text: str | None
    frame: tuple[str, ...] | None = None

    @property
    def length(self) -> int:
        """Characters that were read."""
        return len(self.text or "") + sum(map(len, self.frame or ()))


def held(pipeline: Pipeline, body: Callable[[], T]) -> T:
    """Run a body that calls the functions below, and give up all its locks; the source keeps its name meanwhile.

    Those functions name the source. While one waits for the lock of a table, that table may be renamed and another one
    get its name: the rows of that one would be taken for the source's.
    """

    def step() -> T:
        _hold(pipeline)
        if not db.value(SQL.runs_as_owner, pipeline.id):
            raise db.lost(f'functions of pipeline "{pipeline.name}" were altered; embed_drain() restores them')
        return body()

    return session_guard.contained(lambda: db.in_discarded_subtransaction(step))


def _hold(pipeline: Pipeline) -> None:
    for _ in range(_LOOKS):
        name = db.value(SQL.name_now, pipeline.id)
        if name is not None and _locked(name) and db.value(SQL.is_bound, pipeline.id, name):
            return
    raise db.unavailable("it is being renamed")


def _locked(name: str) -> bool:
    """Lock a table; False when it lost its name while its lock was waited for."""
    try:
        db.atomically(lambda: db.ddl(SQL.hold.on(source=name)))
    except db.DatabaseError as error:
        if not is_undefined_table(error):
            raise
        return False
    return True


def complaint(pipeline: Pipeline, error: db.DatabaseError) -> str:
    """Say why the source cannot be read, and what mends it."""
    said = db.plain(error)
    if said.sqlstate != "42501":
        return f"the source cannot be read: {said.message}"
    owner = db.value(SQL.owner, pipeline.id)
    mend = said.hint or "GRANT what is missing, or give the table to another owner"
    return f'the source cannot be read by its owner "{owner}", as whom it is read: {said.message}; {mend}'


def read(generation: Generation, keys: Sequence[str]) -> Iterator[SourceRow]:
    """Yield the rows that exist among ``keys``; raises DatabaseError with whatever the owner's code raises."""
    query = SQL.read.on(reader=f"embed_store.reader_{generation.id}")
    for row in db.stream(query, "[" + ",".join(keys) + "]"):
        frame = tuple(row["frame"]) if row["frame"] is not None else None
        yield SourceRow(keys[int(row["ord"]) - 1], row["src_hash"], row["content"], frame)


def scan(pipeline: Pipeline, after: str | None, limit: int) -> list[str]:
    """Return the next keys of the source after a key, in key order."""
    return [row["key"] for row in db.rows(SQL.scan.on(scan=f"embed_store.scan_{pipeline.id}"), after, limit)]


def canonical(pipeline: Pipeline, key: str) -> str:
    """Bring a user's key (jsonb as text; a scalar stands for a one-column key) to its stored form.

    Raises UserError 22023 when it has the wrong number of columns and 22P02 when a value is not of its column's type.
    """
    return canonical_all(pipeline, [key])[0]


def canonical_all(pipeline: Pipeline, keys: Sequence[str]) -> list[str]:
    """Bring keys to their stored form, in one statement; raises as ``canonical`` does."""
    wrapped = [_array(pipeline, key) for key in keys]
    query = SQL.canonical_keys.on(canonical=f"embed_store.key_{pipeline.id}")
    try:
        # Undone after: a deferred trigger or a cursor of the owner's code must not run at commit, as us.
        return [str(row["key"]) for row in held(pipeline, lambda: db.rows(query, wrapped))]
    except db.DatabaseError as error:
        if not in_class(error, "22", "23"):  # what the key can be to blame for
            raise
        if len(keys) > 1:
            return [canonical(pipeline, key) for key in keys]  # which of them is it
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


def until_full(rows: Iterable[SourceRow], keys: list[str], room: int) -> tuple[dict[str, SourceRow], list[str]]:
    """Take rows while there is room; also return the keys of which nothing is known then."""
    found: dict[str, SourceRow] = {}
    for row in rows:
        if room <= 0 and found:
            return found, [key for key in keys if key not in found]
        found[row.key] = row
        room -= row.length
    return found, []


def is_key(pipeline: Pipeline, key: str) -> bool:
    """False for a stored key that is none any more, as after a value of an enum was renamed: no row has it."""
    try:
        timeouts.run_with_timeout(lambda: canonical(pipeline, key))
    except UserError:
        return False
    return True
