"""Read source rows through the functions that belong to the source's owner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from evergreen import db
from evergreen.catalog import objects
from evergreen.catalog.pipelines import Generation, Pipeline
from evergreen.errors import UserError
from evergreen.queries import load

SQL = load(__file__)


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
    given = objects.loads(key)
    values = cast("list[object]", given) if isinstance(given, list) else [given]
    names = [name for _, name, _ in pipeline.key]
    if len(values) != len(names) or any(value is None for value in values):
        raise UserError(
            f'{key} is not a key of pipeline "{pipeline.name}"',
            hint=f"Its key is ({', '.join(names)}): pass jsonb_build_array({', '.join(names)}), without NULLs.",
        )
    try:
        query = SQL.canonical_key.on(canonical=f"embed_store.key_{pipeline.id}")
        wrapped = key if isinstance(given, list) else f"[{key}]"
        # Undone after: a deferred trigger or a cursor of the owner's code must not run at commit, as us.
        return str(db.released(lambda: db.value(query, wrapped)))
    except db.DatabaseError as error:
        if not db.sqlstate(error).startswith(("22", "23")):  # what the key can be to blame for
            raise
        raise UserError(
            f'{key} is not a key of pipeline "{pipeline.name}": {db.message(error)}',
            "22P02",
            hint=f"Its key is ({', '.join(f'{n} {t}' for _, n, t in pipeline.key)}).",
        ) from error
